"""The training loop: read `fit`, then `_Loop` from top to bottom.

Shapes: B images, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from vlmprompt.errors import Interrupted
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.given import require_losses
from vlmprompt.methods.output import Losses, MethodOutput
from vlmprompt.progress import Progress, Task
from vlmprompt.training.batches import TrainBatch
from vlmprompt.training.checkpoint import Checkpoint, Position
from vlmprompt.training.compared import compare
from vlmprompt.training.gradients import EpochMeans, observed
from vlmprompt.training.log import TrainLog
from vlmprompt.training.optim import build_optimizer, set_learning_rate
from vlmprompt.training.schedule import step_rate
from vlmprompt.training.step import epoch_record, observe, require_finite, step_record
from vlmprompt.training.stop import StopRequest, stop_on_signals
from vlmprompt.training.validation import is_over
from vlmprompt.training.work import Work, end_with, restore, save, tracked


def fit(work: Work, resumed: Checkpoint | None, progress: Progress) -> tuple[Position, float]:
    """Train the method; it is left in eval mode, in the state that is kept.

    Args:
        resumed: the state to go on from; on a CPU the outcome equals, bit for bit, that without a break.

    Returns:
        The final position and the seconds spent in the loop, measurements on validation images included.

    Raises:
        InputError: the loss, a parameter or a validation image's logit is not finite (the last good checkpoint
            stays), or a file cannot be written.
        VanishedError: the run's folder is gone; the state was saved beside it.
        BusyError: another process took the run over while this one stood still.
        PluginError: the method failed; the last checkpoint stays.
        Interrupted: Ctrl-C or SIGTERM; the state was saved after the step under way.
    """
    optimizer = work.accelerator.prepare(build_optimizer(work.method, work.train))
    position, best = restore(work, optimizer, resumed)
    work.method.train()
    with (
        TrainLog(work.folder.log, keep=position.log_lines, trackers=work.trackers) as log,
        progress.task("training", work.plan.steps - position.total, unit="step") as task,
        stop_on_signals() as stop,
    ):
        work.trackers.start(tracked(work, position, log))
        means = EpochMeans.of(log.records() if position.step else (), position.epoch + 1)
        loop = _Loop(work, optimizer, log, task, stop, best, means)
        while position.epoch < work.plan.epochs and not is_over(work.train, position):
            position = loop.epoch(position)
        if loop.best:
            position = end_with(work, loop.best, position, log)
        seconds = log.seconds
    work.method.eval()
    return position, seconds


@dataclass
class _Loop:
    """A loop under way. Each part takes a position and gives the one behind it.

    Attributes:
        best: the state with the best accuracy on validation images so far; empty where none is kept.
        means: of what the method says of its gradients in this epoch.
    """

    work: Work
    optimizer: Optimizer
    log: TrainLog
    task: Task
    stop: StopRequest
    best: Mapping[str, Tensor]
    means: EpochMeans

    def epoch(self, position: Position) -> Position:
        """What is left of an epoch."""
        method, plan, epoch = self.work.method, self.work.plan, position.epoch
        if position.step == 0:  # else what it set is part of the method's restored state
            with method.blamed():
                method.start_epoch(epoch, plan.epochs)
        for batch in self.work.batches.epoch(epoch, skip=position.step, steps=plan.steps_in(epoch)):
            position = self.pause(self.step(batch, position))
        return self.end(position)

    def step(self, batch: TrainBatch, position: Position) -> Position:
        """Forward, backward, update; and a line of the log."""
        work, method, team = self.work, self.work.method, self.work.team
        lr = step_rate(work.train, work.plan, position.epoch, position.step)
        set_learning_rate(self.optimizer, lr)
        self.optimizer.zero_grad()
        with method.blamed(), team.sharing(method):
            output, losses = forward(method, batch, work.weights_K)
            compared = {} if position.step else compare(method, losses, batch, team, work.accelerator)
            work.accelerator.backward(team.own(losses.total, batch))
            seen = team.add_up(method, output, losses, batch, self.stop)
            gradients = {**compared, **observed(method, work.accelerator, self.optimizer)}
        self.optimizer.step()
        step = observe(seen, method, gradients)  # the one wait for the device
        work.claim.check()
        position = position.after(step.loss, step.images, step.correct)
        require_finite(work, step, position, batch, self.log)
        self.log.append(step_record(step, position, lr))
        self.means.add(step.gradients)
        epoch, accuracy = f"{position.epoch + 1}/{work.plan.epochs}", position.correct / position.seen
        self.task.advance(1, epoch=epoch, loss=step.loss, acc=accuracy)
        return position

    def pause(self, position: Position) -> Position:
        """Between two steps: save when it is time.

        Raises:
            Interrupted: it was asked to stop.
        """
        work = self.work
        stopped = work.team.stopped(self.stop)
        if stopped or position.total % work.train.checkpoint_every == 0 or self.log.gone():
            position = self.save(position)
        if stopped:
            raise interrupted(work, position)
        return position

    def end(self, position: Position) -> Position:
        """Behind the last step of an epoch: measure, log, save."""
        work, method, plan = self.work, self.work.method, self.work.plan
        epoch, lr = position.epoch, step_rate(work.train, plan, position.epoch, max(0, position.step - 1))
        measured = plan.measures_after(epoch, work.train.validate_every)
        if measured:  # whoever stops the measurement loses no step
            position = self.save(position)
        with method.blamed():
            method.end_epoch(epoch, plan.epochs)
        position = position.next_epoch()
        work.team.require_same(method)
        if measured:
            position = measure(work, position, self.stop, self.task)
            if work.train.keep == "best" and position.waited == 0:
                self.best = {name: tensor.clone() for name, tensor in method.trainable_state().items()}
        work.claim.check()
        self.log.append(epoch_record(method, position, lr, self.means.means()))
        self.means = EpochMeans()
        return self.save(position)

    def save(self, position: Position) -> Position:
        """Write a checkpoint."""
        return save(self.work, self.optimizer, position, self.best, self.log)


def forward(method: PromptMethod, batch: TrainBatch, weights_K: Tensor | None) -> tuple[MethodOutput, Losses]:
    """What a method says of a batch, and its loss, of weighted images where classes have weights."""
    output = method.on_views(batch.views)
    given: dict[str, Any] = {} if weights_K is None else {"weights": weights_K[batch.labels_B]}
    if batch.share is not None and (drawn := method.loss_draws(batch.share.whole)):
        given["draws"] = batch.share.of_draws(drawn)
    losses = require_losses(method, method.loss(output, batch.labels_B, **given))
    if not batch.unlabelled:
        return output, losses
    more = require_losses(method, method.unlabelled_loss(method.on_views(batch.unlabelled)))
    parts = {f"unlabelled_{name}": part for name, part in more.parts.items()}
    named = {**losses.parts, "unlabelled": more.total.detach(), **parts}
    return output, Losses(losses.total + more.total, named, losses.compared)


def measure(work: Work, position: Position, stop: StopRequest, task: Task) -> Position:
    """The position at an epoch's end with the accuracy on the validation images.

    Raises:
        Interrupted: it was stopped before; the saved state is that after the epoch's last step.
    """
    assert work.validation is not None
    accuracy = work.validation.accuracy(lambda: stop.requested)
    if accuracy is None:
        raise interrupted(work, position)
    task.advance(0, val=accuracy)
    return position.measured(accuracy)


def interrupted(work: Work, position: Position) -> Interrupted:
    """The error for a stop that was asked for."""
    return Interrupted(
        f"stopped after step {position.total} of {work.plan.steps}; the state is in {work.folder.path}",
        hint="the same command with --resume goes on from there",
    )

"""The training loop: read `fit` from top to bottom.

Shapes: B images, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from vlmprompt.errors import InputError, Interrupted
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.given import require_losses
from vlmprompt.methods.output import Losses, MethodOutput
from vlmprompt.progress import Progress, Task
from vlmprompt.training.batches import TrainBatch
from vlmprompt.training.checkpoint import Checkpoint, Position
from vlmprompt.training.gradients import EpochMeans, observed
from vlmprompt.training.log import TrainLog
from vlmprompt.training.optim import build_optimizer, set_learning_rate
from vlmprompt.training.schedule import step_rate
from vlmprompt.training.stop import StopRequest, stop_on_signals
from vlmprompt.training.team import Seen
from vlmprompt.training.validation import is_over
from vlmprompt.training.work import Work, end_with, restore, save, tracked


@dataclass(frozen=True)
class Step:
    """What one step showed.

    Attributes:
        loss: mean over the batch.
        parts: its named parts.
        images: B.
        correct: how many were right, before the update.
        norm: of all trainable parameters together, after it.
        gradients: what the method says of them, before it.
    """

    loss: float
    parts: dict[str, float]
    images: int
    correct: int
    norm: float
    gradients: dict[str, float]


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
    method, plan, train, team = work.method, work.plan, work.train, work.team
    optimizer = work.accelerator.prepare(build_optimizer(method, train))
    position, best = restore(work, optimizer, resumed)
    method.train()
    with (
        TrainLog(work.folder.log, keep=position.log_lines, trackers=work.trackers) as log,
        progress.task("training", plan.steps - position.total, unit="step") as task,
        stop_on_signals() as stop,
    ):
        work.trackers.start(tracked(work, position, log))
        means = EpochMeans.of(log.records() if position.step else (), position.epoch + 1)
        for epoch in range(position.epoch, plan.epochs):
            if is_over(train, position):
                break
            lr = step_rate(train, plan, epoch, max(0, position.step - 1))  # of the last step, should none be left
            if position.step == 0:  # else what it set is part of the method's restored state
                with method.blamed():
                    method.start_epoch(epoch, plan.epochs)
            for batch in work.batches.epoch(epoch, skip=position.step, steps=plan.steps_in(epoch)):
                lr = step_rate(train, plan, epoch, position.step)
                set_learning_rate(optimizer, lr)
                optimizer.zero_grad()
                with method.blamed(), team.sharing(method):
                    output, losses = forward(method, batch, work.weights_K)
                    work.accelerator.backward(team.own(losses.total, batch))
                    seen = team.add_up(method, output, losses, batch, stop)
                    gradients = observed(method, work.accelerator, optimizer)
                optimizer.step()
                step = observe(seen, method, gradients)  # the one wait for the device
                work.claim.check()
                position = position.after(step.loss, step.images, step.correct)
                require_finite(work, step, position, batch, log)
                log.append(step_record(step, position, lr))
                means.add(step.gradients)
                accuracy = position.correct / position.seen
                task.advance(1, epoch=f"{epoch + 1}/{plan.epochs}", loss=step.loss, acc=accuracy)
                stopped = team.stopped(stop)
                if stopped or position.total % train.checkpoint_every == 0 or log.gone():
                    position = save(work, optimizer, position, best, log)
                if stopped:
                    raise interrupted(work, position)
            measured = plan.measures_after(epoch, train.validate_every)
            if measured:  # whoever stops the measurement loses no step
                position = save(work, optimizer, position, best, log)
            with method.blamed():
                method.end_epoch(epoch, plan.epochs)
            position = position.next_epoch()
            team.require_same(method)
            if measured:
                position = measure(work, position, stop, task)
                if train.keep == "best" and position.waited == 0:
                    best = {name: tensor.clone() for name, tensor in method.trainable_state().items()}
            work.claim.check()
            log.append(epoch_record(method, position, lr, means.means()))
            means = EpochMeans()
            position = save(work, optimizer, position, best, log)
        if best:
            position = end_with(work, best, position, log)
        seconds = log.seconds
    method.eval()
    return position, seconds


def forward(method: PromptMethod, batch: TrainBatch, weights_K: Tensor | None) -> tuple[MethodOutput, Losses]:
    """What a method says of a batch, and its loss, of weighted images where classes have weights."""
    output = method.on_views(batch.views)
    given: dict[str, Any] = {} if weights_K is None else {"weights": weights_K[batch.labels_B]}
    if batch.share is not None and (drawn := method.loss_draws(batch.share.whole)):
        given["draws"] = batch.share.of_draws(drawn)
    losses = require_losses(method.told, method.loss(output, batch.labels_B, **given))
    if not batch.unlabelled:
        return output, losses
    more = require_losses(method.told, method.unlabelled_loss(method.on_views(batch.unlabelled)))
    parts = {f"unlabelled_{name}": part for name, part in more.parts.items()}
    named = {**losses.parts, "unlabelled": more.total.detach(), **parts}
    return output, Losses(losses.total + more.total, named)


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


def observe(seen: Seen, method: PromptMethod, gradients: Mapping[str, Tensor]) -> Step:
    """Bring a step's numbers from the device in one copy."""
    norm = get_total_norm([p.detach() for p in method.trainable_parameters()])
    values = [seen.loss, seen.correct, norm, *seen.parts.values(), *gradients.values()]
    loss, right, size, *rest = torch.stack([v.detach().double() for v in values]).tolist()
    parts, slopes = rest[: len(seen.parts)], rest[len(seen.parts) :]
    return Step(
        loss=loss,
        parts=dict(zip(seen.parts, parts, strict=True)),
        images=seen.images,
        correct=round(right),
        norm=size,
        gradients=dict(zip(gradients, slopes, strict=True)),
    )


def step_record(step: Step, position: Position, lr: float) -> dict[str, Any]:
    """A step's line in the log; epochs and steps count from 1."""
    where = {"step": position.total, "epoch": position.epoch + 1, "lr": lr}
    shown = {"loss": step.loss, "parts": finite(step.parts), "accuracy": step.correct / step.images}
    return where | shown | ({"gradients": finite(step.gradients)} if step.gradients else {})


def finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """The same, but None for what JSON has no number for."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def epoch_record(
    method: PromptMethod, position: Position, lr: float, gradients: Mapping[str, float | None]
) -> dict[str, Any]:
    """A finished epoch's line in the log: means over its images, and what the method says of itself.

    `gradients` are means over its steps; most methods have none. Where validation images were measured also the
    accuracy on them, and whether it is the best so far.
    """
    where = {"step": position.total, "epoch": position.epoch, "epoch_end": True, "lr": lr}
    means = {"loss": position.loss, "accuracy": position.accuracy}
    if position.val_accuracy is not None:
        means |= {"val_accuracy": position.val_accuracy, "best": position.waited == 0}
    seen = {"gradients": dict(gradients)} if gradients else {}
    with method.blamed():
        diagnostics = dict(method.diagnostics())
    return where | means | {"diagnostics": diagnostics} | seen


def require_finite(work: Work, step: Step, position: Position, batch: TrainBatch, log: TrainLog) -> None:
    """Stop a run that has left the numbers, before it is saved; the log keeps all images of the batch."""
    if math.isfinite(step.loss) and math.isfinite(step.norm):
        return
    what = "a parameter has become NaN or infinite" if math.isfinite(step.loss) else f"the loss is {step.loss}"
    ids = [work.image_ids[i] for i in batch.index_of_all.tolist()]
    where = {"step": position.total, "epoch": position.epoch + 1}
    log.append({"error": what, **where, "images": ids})
    more = f" and {len(ids) - 4} more (all in {work.folder.log})" if len(ids) > 4 else ""
    raise InputError(
        f"{what} at step {where['step']} (epoch {where['epoch']}), with images {', '.join(ids[:4])}{more}",
        hint="lower the learning rate (--set lr=...), or use --precision fp32; the last good state is kept",
    )


def interrupted(work: Work, position: Position) -> Interrupted:
    """The error for a stop that was asked for."""
    return Interrupted(
        f"stopped after step {position.total} of {work.plan.steps}; the state is in {work.folder.path}",
        hint="the same command with --resume goes on from there",
    )

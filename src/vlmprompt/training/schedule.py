"""How many steps a run takes, and the learning rate of each, in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vlmprompt.config.models import TrainConfig
from vlmprompt.errors import InputError, UsageError


@dataclass(frozen=True)
class Plan:
    """The steps of a run.

    Attributes:
        epochs: passes over the training images, the last one possibly cut short by `max_steps`.
        steps_per_epoch: optimiser steps of a whole pass.
        steps: of the whole run.
    """

    epochs: int
    steps_per_epoch: int
    steps: int

    @classmethod
    def of(cls, train: TrainConfig, n_images: int) -> Plan:
        """The plan for a number of training images.

        An incomplete last batch is left out, unless it is the only one (Dassl's rule). With `max_steps` the
        epochs are those that these steps need, so that the schedule still runs its whole course.

        Raises:
            UsageError: `max_steps` is 0.
            InputError: there are no images.
        """
        if not n_images:
            raise InputError("there are no training images, so the run would take 0 steps")
        if train.max_steps == 0:
            raise UsageError("max_steps is 0: the run would take 0 steps", hint="raise it, or leave it out")
        per_epoch = max(1, n_images // train.batch_size)
        steps = min(train.max_steps or math.inf, train.epochs * per_epoch)
        return cls(math.ceil(steps / per_epoch), per_epoch, int(steps))

    def steps_in(self, epoch: int) -> int:
        """Steps of one epoch (0-based)."""
        return min(self.steps_per_epoch, self.steps - epoch * self.steps_per_epoch)

    def measures_after(self, epoch: int, validate_every: int | None) -> bool:
        """Whether validation images are measured after an epoch (0-based): every so many, and after the last."""
        return validate_every is not None and ((epoch + 1) % validate_every == 0 or epoch == self.epochs - 1)


def step_rate(train: TrainConfig, plan: Plan, epoch: int, step: int) -> float:
    """The learning rate of one step.

    With `schedule_unit` = "epoch" it is that of the whole epoch, see `learning_rate`. With "step" the cosine and the
    line are followed step by step: t steps of T done and w those of the warm-up, in place of e, E and w there. Without
    warm-up this is torch's CosineAnnealingLR(T_max=T, eta_min=min_lr), its `step` called after every step.

    Args:
        epoch, step: 0-based, of the run and of the epoch.
    """
    if train.schedule_unit == "epoch" or train.schedule not in ("cosine", "linear"):
        return learning_rate(train, plan.epochs, epoch)
    done = epoch * plan.steps_per_epoch + step
    return _falling(train, done, plan.steps, train.warmup_epochs * plan.steps_per_epoch)


def last_rate(train: TrainConfig, plan: Plan) -> float:
    """The learning rate of a run's last step."""
    return step_rate(train, plan, plan.epochs - 1, plan.steps_in(plan.epochs - 1) - 1)


def learning_rate(train: TrainConfig, epochs: int, epoch: int) -> float:
    """The learning rate throughout an epoch.

    With w warm-up epochs of E: `warmup_lr` for e < w, then by `schedule`, with m = `min_lr`

    - cosine: m + (lr - m)/2 * (1 + cos(pi * (e - w) / E)), which starts at lr and does not reach m (Dassl: the cosine
      spans E epochs, and starts anew after the warm-up);
    - linear: m + (lr - m) * (1 - (e - w) / E), over the same span;
    - step: lr * gamma^n, n the number of milestones <= e, which count from the run's start;
    - constant: lr.

    Without warm-up, and with m = 0, these are torch's CosineAnnealingLR, LinearLR (from 1 to 0), MultiStepLR and
    ConstantLR (factor 1).

    Args:
        epochs: E of this run, which `max_steps` may have lowered.
        epoch: e, 0-based.
    """
    if train.schedule in ("cosine", "linear"):
        return _falling(train, epoch, epochs, train.warmup_epochs)
    if epoch < train.warmup_epochs:
        return train.warmup_lr
    if train.schedule == "constant":
        return train.lr
    return train.lr * train.gamma ** sum(milestone <= epoch for milestone in train.milestones)


def _falling(train: TrainConfig, done: int, span: int, warmup: int) -> float:
    """A cosine or linear rate after `done` of `span` epochs or steps, of which `warmup` are warm-up."""
    if done < warmup:
        return train.warmup_lr
    part, height = (done - warmup) / span, train.lr - train.min_lr
    if train.schedule == "linear":
        return train.min_lr + height * (1 - part)
    return train.min_lr + height / 2 * (1 + math.cos(math.pi * (done - warmup) / span))

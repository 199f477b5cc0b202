"""How many steps a run takes, and the learning rate of each epoch, in closed form."""

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


def learning_rate(train: TrainConfig, epochs: int, epoch: int) -> float:
    """The learning rate throughout an epoch.

    With w warm-up epochs of E: `warmup_lr` for e < w, then by `schedule`

    - cosine: lr/2 * (1 + cos(pi * (e - w) / E)), which starts at lr and does not reach 0 (Dassl: the cosine spans E
      epochs, and starts anew after the warm-up);
    - linear: lr * (1 - (e - w) / E), over the same span;
    - step: lr * gamma^m, m the number of milestones <= e, which count from the run's start;
    - constant: lr.

    Without warm-up these are torch's CosineAnnealingLR, LinearLR (from 1 to 0), MultiStepLR and ConstantLR (factor 1).

    Args:
        epochs: E of this run, which `max_steps` may have lowered.
        epoch: e, 0-based.
    """
    if epoch < train.warmup_epochs:
        return train.warmup_lr
    if train.schedule == "constant":
        return train.lr
    if train.schedule == "step":
        return train.lr * train.gamma ** sum(milestone <= epoch for milestone in train.milestones)
    if train.schedule == "linear":
        return train.lr * (1 - (epoch - train.warmup_epochs) / epochs)
    return train.lr / 2 * (1 + math.cos(math.pi * (epoch - train.warmup_epochs) / epochs))

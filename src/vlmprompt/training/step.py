"""What a step showed, in numbers: brought from the device once, looked at, and written as a line of the log.

Shapes: B images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from vlmprompt.errors import InputError
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.training.batches import TrainBatch
from vlmprompt.training.checkpoint import Position
from vlmprompt.training.log import TrainLog
from vlmprompt.training.team import Seen
from vlmprompt.training.work import Work


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

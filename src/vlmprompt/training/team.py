"""A step that several processes take together: whose images and classes are whose, and what is added up.

Shapes: B images of a batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vlmprompt.errors import InputError
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.divided import divides_classes, divides_rows
from vlmprompt.methods.output import Losses, MethodOutput
from vlmprompt.methods.ranks import label_ranks
from vlmprompt.parallel.classes import ClassShares
from vlmprompt.parallel.group import ALONE, Group
from vlmprompt.progress import Progress
from vlmprompt.training.batches import TrainBatch
from vlmprompt.training.stop import StopRequest


@dataclass(frozen=True)
class Seen:
    """What a batch showed, on its device.

    Attributes:
        loss: mean over the batch.
        correct: how many images were right.
        parts: of the loss, by name.
        images: B.
    """

    loss: Tensor
    correct: Tensor
    parts: Mapping[str, Tensor]
    images: int


class Team:
    """The processes of a run in its loop.

    Each computes a part w of the loss: of its own images, w their share of the batch, or of all images, w = 1 / size,
    where the method does not divide a batch. The gradients of all parts add up to that of the batch.

    Args:
        group: the processes.
        rows: each has its own images of a batch.
        classes: each encodes the text of its own classes.
    """

    def __init__(self, group: Group = ALONE, *, rows: bool = False, classes: bool = False) -> None:
        self.group, self.rows, self.classes = group, rows, classes
        self._stopped = False

    @classmethod
    def of(cls, group: Group, method: PromptMethod, images: int) -> Team:
        """The processes of a run, which divide what the method lets them divide.

        Args:
            images: of a batch.

        Raises:
            InputError: there are more processes than images in a batch.
        """
        if group.alone:
            return cls()
        team = cls(group, rows=divides_rows(method), classes=divides_classes(method))
        if team.rows and group.size > images:
            raise InputError(
                f"{group.size} processes were launched, but a batch has {images} images",
                hint=f"launch {images} at most, or give a larger --batch-size (and as many images)",
            )
        return team

    @property
    def of_batches(self) -> Group:
        """The processes that divide a batch."""
        return self.group if self.rows else ALONE

    def announce(self, told: str, progress: Progress) -> None:
        """Say what is divided, and what is not.

        Args:
            told: the method in words.
        """
        if self.group.alone:
            return
        parts = ["the images of each batch"] * self.rows + ["the text of the classes"] * self.classes
        if parts:
            progress.message(f"{self.group.size} processes divide {' and '.join(parts)}")
        if not self.rows:
            rest = "" if parts else ", so they gain nothing"
            progress.warn(f"{told} does not divide a batch: each of the processes computes it whole{rest}")

    @contextmanager
    def sharing(self, method: PromptMethod) -> Iterator[None]:
        """Around a step: text is encoded in shares."""
        if not self.classes:
            yield
            return
        method.class_shares = ClassShares(self.group)
        try:
            yield
        finally:
            method.class_shares = None

    def own(self, loss: Tensor, batch: TrainBatch) -> Tensor:
        """The part of a batch's loss that this process computes."""
        return loss if self.group.alone else self._weight(batch) * loss

    def add_up(
        self, method: PromptMethod, output: MethodOutput, losses: Losses, batch: TrainBatch, stop: StopRequest
    ) -> Seen:
        """What all processes saw, after the backward pass of each; parameters have the gradients of the whole batch."""
        correct = (label_ranks(output.logits.detach(), batch.labels_B) == 0).sum()
        if self.group.alone:
            return Seen(losses.total, correct, losses.parts, len(batch.labels_B))
        images = batch.share.whole if batch.share is not None else len(batch.labels_B)
        numbers = [losses.total, correct * (images / len(batch.labels_B)), *losses.parts.values()]
        own = self._weight(batch) * torch.stack([number.detach().double() for number in numbers])
        wishes = own.new_tensor([stop.requested])
        loss, right, *parts, stopped = _summed(self.group, list(method.trainable_parameters()), own, wishes)
        self._stopped = bool(stopped > 0)
        return Seen(loss, right, dict(zip(losses.parts, parts, strict=True)), images)

    def stopped(self, stop: StopRequest) -> bool:
        """Whether the loop is to end after this step: what one of the processes was asked for, all do."""
        return stop.requested if self.group.alone else self._stopped

    def require_same(self, method: PromptMethod) -> None:
        """Stop where the processes have come apart.

        Raises:
            InputError: their states differ.
        """
        if self.group.alone:
            return
        digest = hashlib.sha256()
        for name, tensor in (*sorted(method.trainable_state().items()), ("rng", method.rng_state())):
            digest.update(name.encode() + tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        self.group.require_same(
            "a learned state",
            digest.hexdigest(),
            f"processors or packages differ, or {method.told} draws random numbers that its generator does not give",
        )

    def _weight(self, batch: TrainBatch) -> float:
        return 1 / self.group.size if batch.share is None else batch.share.weight


def _summed(group: Group, parameters: list[nn.Parameter], *numbers: Tensor) -> list[Tensor]:
    """Sums over the processes, in one exchange and in float64: gradients into their places, and scalars."""
    there = [p.grad is not None for p in parameters]
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flags = numbers[0].new_tensor(there)
    sums = group.total(torch.cat([*(grad.double().flatten() for grad in grads), flags, *numbers]))
    *summed, found, rest = sums.split([*(p.numel() for p in parameters), len(flags), sum(map(len, numbers))])
    for parameter, grad, is_there in zip(parameters, summed, found.tolist(), strict=True):
        if is_there:
            parameter.grad = grad.view_as(parameter).to(parameter.dtype)
    return list(rest)

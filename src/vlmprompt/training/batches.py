"""What the loop walks over: an epoch's batches, from images or from features computed once.

The order of an epoch is a pure function of (seed, epoch), and so is the augmentation of an image in it: an
epoch can be entered at any step and goes on as if it had never been left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from vlmprompt.backbones.features import CachedFeatures
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.data.loader import ImageLoader
from vlmprompt.data.preprocess import Transform
from vlmprompt.data.records import Record
from vlmprompt.training.order import Order, balanced, epoch_generator, shuffled

Sampling = Literal["shuffled", "balanced"]


@dataclass(frozen=True)
class TrainBatch:
    """One step's input.

    Attributes:
        images: (B,3,H,W), or features of B images.
        labels_B: int64, on the same device.
        index_B: positions in the training records, on the CPU.
    """

    images: Tensor | ImageFeatures
    labels_B: Tensor
    index_B: Tensor


class Batches(Protocol):
    """A source of epochs."""

    def epoch(self, epoch: int, *, skip: int, steps: int) -> Iterator[TrainBatch]:
        """The batches `skip` .. `steps` - 1 of an epoch."""


def draw(sampling: Sampling, labels_n: Tensor, generator: torch.Generator) -> Order:
    """The order of an epoch."""
    return balanced(labels_n, generator) if sampling == "balanced" else shuffled(len(labels_n), generator)


class ImageBatches:
    """Batches of images, decoded and transformed anew every epoch.

    Args:
        records: the training images.
        transform: random where `augment` is set.
        seed: of order and augmentation.
        augment: the transform draws random numbers.
        sampling: see `TrainConfig.sampling`; an image that comes again in an epoch gets another view.
    """

    def __init__(
        self,
        records: Sequence[Record],
        transform: Transform,
        batch_size: int,
        *,
        seed: int,
        augment: bool,
        device: torch.device,
        workers: int,
        sampling: Sampling = "shuffled",
    ) -> None:
        self._records, self._transform, self._batch_size = records, transform, batch_size
        self._seed, self._augment = seed, augment
        self._device, self._workers = device, workers
        self._sampling = sampling
        self._labels_n = torch.tensor([record.label for record in records])

    def epoch(self, epoch: int, *, skip: int, steps: int) -> Iterator[TrainBatch]:
        """See `Batches.epoch`."""
        order = draw(self._sampling, self._labels_n, epoch_generator(self._seed, epoch))
        part = slice(skip * self._batch_size, steps * self._batch_size)
        loader = ImageLoader(
            self._records,
            self._transform,
            self._batch_size,
            device=self._device,
            workers=self._workers,
            order=order.index_n[part].tolist(),
            again=order.again_n[part].tolist(),
            augment_seed=(self._seed, epoch) if self._augment else None,
        )
        for batch in loader:
            yield TrainBatch(batch.images_B3HW, batch.labels_B, batch.index_B)


class FeatureBatches:
    """Batches of features that were computed once; no loader and no image tower.

    An epoch takes every image once, in one of its V views drawn at random; with balanced sampling an image that comes
    again does so in its next view.

    Args:
        cached: features of V views of n images, view after view.
        seed: of order and views.
        device: where batches go; features that were too large for it lie in main memory.
        sampling: see `TrainConfig.sampling`.
    """

    def __init__(
        self,
        cached: CachedFeatures,
        batch_size: int,
        *,
        seed: int,
        device: torch.device,
        sampling: Sampling = "shuffled",
    ) -> None:
        self._cached, self._batch_size, self._seed, self._device = cached, batch_size, seed, device
        self._n = len(cached.labels) // cached.views
        self._sampling = sampling
        self._labels_n = cached.labels[: self._n].cpu()

    def epoch(self, epoch: int, *, skip: int, steps: int) -> Iterator[TrainBatch]:
        """See `Batches.epoch`."""
        generator = epoch_generator(self._seed, epoch)
        order = draw(self._sampling, self._labels_n, generator)
        views_n = torch.randint(self._cached.views, (self._n,), generator=generator)
        for step in range(skip, steps):
            part = slice(step * self._batch_size, (step + 1) * self._batch_size)
            index_B = order.index_n[part]
            view_B = (views_n[index_B] + order.again_n[part]) % self._cached.views
            rows_B = (view_B * self._n + index_B).to(self._cached.labels.device)
            features = self._cached.features[rows_B].to(self._device)
            yield TrainBatch(features, self._cached.labels[rows_B].to(self._device), index_B)

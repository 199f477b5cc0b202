"""What the loop walks over: an epoch's batches, from images or from features computed once.

The order of an epoch is a pure function of (seed, epoch), and so is the augmentation of an image in it: an
epoch can be entered at any step and goes on as if it had never been left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vlmprompt.backbones.features import CachedFeatures
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.data.loader import ImageLoader
from vlmprompt.data.preprocess import Transform
from vlmprompt.data.records import Record


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


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """The generator of an epoch's order; neighbouring seeds and epochs share nothing."""
    digest = hashlib.blake2b(f"order {seed} {epoch}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


class ImageBatches:
    """Batches of images, decoded and transformed anew every epoch.

    Args:
        records: the training images.
        transform: random where `augment` is set.
        seed: of order and augmentation.
        augment: the transform draws random numbers.
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
    ) -> None:
        self._records, self._transform, self._batch_size = records, transform, batch_size
        self._seed, self._augment = seed, augment
        self._device, self._workers = device, workers

    def epoch(self, epoch: int, *, skip: int, steps: int) -> Iterator[TrainBatch]:
        """See `Batches.epoch`."""
        order = torch.randperm(len(self._records), generator=epoch_generator(self._seed, epoch))
        loader = ImageLoader(
            self._records,
            self._transform,
            self._batch_size,
            device=self._device,
            workers=self._workers,
            order=order[skip * self._batch_size : steps * self._batch_size].tolist(),
            augment_seed=(self._seed, epoch) if self._augment else None,
        )
        for batch in loader:
            yield TrainBatch(batch.images_B3HW, batch.labels_B, batch.index_B)


class FeatureBatches:
    """Batches of features that were computed once; no loader and no image tower.

    An epoch takes every image once, in one of its V views drawn at random.

    Args:
        cached: features of V views of n images, view after view.
        seed: of order and views.
        device: where batches go; features that were too large for it lie in main memory.
    """

    def __init__(self, cached: CachedFeatures, batch_size: int, *, seed: int, device: torch.device) -> None:
        self._cached, self._batch_size, self._seed, self._device = cached, batch_size, seed, device
        self._n = len(cached.labels) // cached.views

    def epoch(self, epoch: int, *, skip: int, steps: int) -> Iterator[TrainBatch]:
        """See `Batches.epoch`."""
        generator = epoch_generator(self._seed, epoch)
        order = torch.randperm(self._n, generator=generator)
        views = torch.randint(self._cached.views, (self._n,), generator=generator)
        for step in range(skip, steps):
            index_B = order[step * self._batch_size : (step + 1) * self._batch_size]
            rows_B = (views[index_B] * self._n + index_B).to(self._cached.labels.device)
            features = self._cached.features[rows_B].to(self._device)
            yield TrainBatch(features, self._cached.labels[rows_B].to(self._device), index_B)

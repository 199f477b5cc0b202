"""What the loop walks over: an epoch's batches, from images or from features computed once.

The order of an epoch is a pure function of (seed, epoch), and so is the augmentation of an image in it: an
epoch can be entered at any step and goes on as if it had never been left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from vlmprompt.backbones.features import CachedFeatures
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.data.loader import ImageReader, in_batches
from vlmprompt.data.preprocess import Transform
from vlmprompt.data.records import Record
from vlmprompt.parallel.group import ALONE, Group
from vlmprompt.parallel.rows import RowShare, places_of, shares_of
from vlmprompt.training.order import Order, balanced, cycled, epoch_generator, shuffled

# "cycled" is that of images without labels, of which an epoch may take more or fewer than there are.
Sampling = Literal["shuffled", "balanced", "cycled"]
Images = Tensor | ImageFeatures


@dataclass(frozen=True)
class TrainBatch:
    """One step's input.

    Attributes:
        images: (B,3,H,W), or features of B images.
        labels_B: int64, on the same device.
        index_B: positions in the training records, on the CPU.
        others: further views of the same images, where a method takes several.
        unlabelled: views of B images without labels, where a method takes some.
        share: which images of a larger batch these are, where several processes divide it.
        whole_index: positions of all of that batch.
    """

    images: Images
    labels_B: Tensor
    index_B: Tensor
    others: tuple[Images, ...] = ()
    unlabelled: tuple[Images, ...] = ()
    share: RowShare | None = None
    whole_index: Tensor | None = None

    @property
    def index_of_all(self) -> Tensor:
        """Positions of the images of the step, in whatever process."""
        return self.index_B if self.whole_index is None else self.whole_index

    @property
    def views(self) -> tuple[Images, ...]:
        """All views of the images with labels."""
        return (self.images, *self.others)


class Batches(Protocol):
    """A source of epochs."""

    def epoch(self, epoch: int, *, skip: int, steps: int) -> Iterator[TrainBatch]:
        """The batches `skip` .. `steps` - 1 of an epoch."""

    def close(self) -> None:
        """There will be no further epoch."""


def draw(sampling: Sampling, labels_n: Tensor, generator: torch.Generator, draws: int) -> Order:
    """The order of an epoch; of "cycled" images so many draws."""
    if sampling == "cycled":
        return cycled(len(labels_n), draws, generator)
    return balanced(labels_n, generator) if sampling == "balanced" else shuffled(len(labels_n), generator)


class ImageBatches:
    """Batches of images, transformed anew every epoch; decoded once where they always look the same.

    Args:
        records: the training images.
        transform: random where `augment` is set.
        seed: of order and augmentation.
        augment: the transform draws random numbers.
        sampling: see `TrainConfig.sampling`; an image that comes again in an epoch gets another view.
        views: of each image in a step.
        group: of processes that divide each batch; each reads its own images.
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
        workers: int | None,
        sampling: Sampling = "shuffled",
        views: int = 1,
        group: Group = ALONE,
    ) -> None:
        self._batch_size, self._seed, self._augment = batch_size, seed, augment
        self._reader = ImageReader(records, transform, device=device, workers=workers, views=views, repeated=True)
        self._sampling, self._views, self._group = sampling, views, group
        self._labels_n = torch.tensor([record.label for record in records])

    def epoch(self, epoch: int, *, skip: int, steps: int) -> Iterator[TrainBatch]:
        """See `Batches.epoch`."""
        generator = epoch_generator(self._seed, epoch, _images_of(self._sampling))
        order = draw(self._sampling, self._labels_n, generator, steps * self._batch_size)
        # Of images without labels that of an epoch that there is not: no image with a label is seen in the same view.
        augment_seed = (self._seed, -1 - epoch if self._sampling == "cycled" else epoch)
        part = slice(skip * self._batch_size, steps * self._batch_size)
        index_n, again_n = order.index_n[part], order.again_n[part]
        wholes = index_n.split(self._batch_size)
        size, shares = self._batch_size, shares_of(self._group, len(index_n), self._batch_size)
        if not self._group.alone and shares:
            places = places_of(shares, size)
            # Of a smaller last batch nobody has more than of the others.
            index_n, again_n, size = index_n[places], again_n[places], shares[0].stop - shares[0].start
        seed_of_views = augment_seed if self._augment else None
        batches = in_batches(index_n.tolist(), again_n.tolist(), seed_of_views, size)
        for i, batch in enumerate(self._reader.read(batches)):
            first, *others = batch.images_B3HW.unbind(1) if self._views > 1 else (batch.images_B3HW,)
            found = TrainBatch(first, batch.labels_B, batch.index_B, tuple(others))
            yield found if self._group.alone else replace(found, share=shares[i], whole_index=wholes[i])

    def close(self) -> None:
        """End the processes that decode."""
        self._reader.close()


class FeatureBatches:
    """Batches of features that were computed once; no loader and no image tower.

    An epoch takes every image once, in one of its V views drawn at random; with balanced sampling an image that comes
    again does so in its next view. Of several views in a step no two are the same.

    Args:
        cached: features of V views of n images, view after view.
        seed: of order and views.
        device: where batches go; features that were too large for it lie in main memory.
        sampling: see `TrainConfig.sampling`.
        views: of each image in a step, at most V.
        group: of processes that divide each batch.
    """

    def __init__(
        self,
        cached: CachedFeatures,
        batch_size: int,
        *,
        seed: int,
        device: torch.device,
        sampling: Sampling = "shuffled",
        views: int = 1,
        group: Group = ALONE,
    ) -> None:
        self._cached, self._batch_size, self._seed, self._device = cached, batch_size, seed, device
        self._n = len(cached.labels) // cached.views
        self._sampling, self._views, self._group = sampling, views, group
        self._labels_n = cached.labels[: self._n].cpu()

    def epoch(self, epoch: int, *, skip: int, steps: int) -> Iterator[TrainBatch]:
        """See `Batches.epoch`."""
        generator = epoch_generator(self._seed, epoch, _images_of(self._sampling))
        order = draw(self._sampling, self._labels_n, generator, steps * self._batch_size)
        views_Wn = self._drawn_views(generator)
        for step in range(skip, steps):
            part = slice(step * self._batch_size, (step + 1) * self._batch_size)
            index_B, again_B = order.index_n[part], order.again_n[part]
            share, whole = (None, None) if self._group.alone else (RowShare.of(self._group, len(index_B)), index_B)
            if share is not None:
                index_B, again_B = index_B[share.start : share.stop], again_B[share.start : share.stop]
            views_WB = (views_Wn[:, index_B] + again_B) % self._cached.views
            rows_WB = (views_WB * self._n + index_B).to(self._cached.labels.device)
            first, *others = (self._cached.rows(rows_B).to(self._device) for rows_B in rows_WB)
            labels_B = self._cached.labels[rows_WB[0]].to(self._device)
            yield TrainBatch(first, labels_B, index_B, tuple(others), share=share, whole_index=whole)

    def close(self) -> None:
        """See `Batches.close`: nothing is open."""

    def _drawn_views(self, generator: torch.Generator) -> Tensor:
        """Different ones of the V views of each image, (W,n), W being those of a step."""
        first_n = torch.randint(self._cached.views, (self._n,), generator=generator)
        if self._views == 1:
            return first_n[None]
        others_nV = torch.rand(self._n, self._cached.views - 1, generator=generator).argsort(dim=1) + 1
        offsets_nW = torch.cat([torch.zeros(self._n, 1, dtype=torch.int64), others_nV[:, : self._views - 1]], dim=1)
        return (first_n[:, None] + offsets_nW).T % self._cached.views


class WithUnlabelled:
    """Batches, each with as many images without labels.

    Args:
        unlabelled: "cycled", in batches of the size of the others.
    """

    def __init__(self, labelled: Batches, unlabelled: Batches) -> None:
        self._labelled, self._unlabelled = labelled, unlabelled

    def epoch(self, epoch: int, *, skip: int, steps: int) -> Iterator[TrainBatch]:
        """See `Batches.epoch`."""
        both = (batches.epoch(epoch, skip=skip, steps=steps) for batches in (self._labelled, self._unlabelled))
        for batch, more in zip(*both, strict=True):
            yield replace(batch, unlabelled=more.views)

    def close(self) -> None:
        """See `Batches.close`."""
        self._labelled.close()
        self._unlabelled.close()


def _images_of(sampling: Sampling) -> str:
    """What sets the random numbers of an order apart from those of other images."""
    return "unlabelled" if sampling == "cycled" else "order"

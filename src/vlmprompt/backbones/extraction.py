"""Running images through a frozen tower, once for all that read them: what is computed, and in which batches.

Features depend, in their last digits, on the batch in which they are computed. So batches are those of the whole list
of images, whichever part of it is computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import GLOBAL, ImageFeatures, ImageNeeds
from vlmprompt.config.models import FeatureDtype, Runtime
from vlmprompt.data.loader import ImageReader, in_batches
from vlmprompt.data.records import Record

DTYPES: Mapping[FeatureDtype, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


class FeatureReader(Protocol):
    """The part of a method that decides what is read of an image."""

    def image_needs(self) -> ImageNeeds:
        """See `PromptMethod.image_needs`."""

    def image_extra(self, images: Tensor, labels: Tensor | None) -> Mapping[str, Tensor]:
        """See `PromptMethod.image_extra`."""

    def feature_key(self) -> str:
        """See `PromptMethod.feature_key`."""


@dataclass(frozen=True)
class PlainReader:
    """Reads what the tower gives, and nothing of its own."""

    needs: ImageNeeds

    def image_needs(self) -> ImageNeeds:
        """See `FeatureReader`."""
        return self.needs

    def image_extra(self, images: Tensor, labels: Tensor | None) -> Mapping[str, Tensor]:
        """See `FeatureReader`."""
        return {}

    def feature_key(self) -> str:
        """See `FeatureReader`."""
        return ""


@dataclass(frozen=True)
class Part:
    """Consecutive images of one view: `start` to `stop` of the list."""

    view: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Extraction:
    """What is to be computed of which images.

    Attributes:
        readers: who reads them; the tower runs once for all.
        views: 1 = the deterministic test view; V > 1 = V random training views, recorded by `seed`.
        labelled: tell the readers the labels.
    """

    readers: tuple[FeatureReader, ...]
    records: Sequence[Record]
    backbone: Backbone
    runtime: Runtime
    views: int
    seed: int
    batch_size: int
    labelled: bool

    @property
    def rows(self) -> int:
        """Views of all images together."""
        return self.views * len(self.records)

    @property
    def whole(self) -> list[Part]:
        """A part for each view."""
        return [Part(view, 0, len(self.records)) for view in range(self.views)]

    @property
    def labels(self) -> Tensor:
        """Of all rows, view after view; int64, on the CPU."""
        return torch.tensor([record.label for record in self.records]).repeat(self.views)

    @cached_property
    def host_of(self) -> list[int]:
        """For each reader the number of the one whose features hold its own; its own where no other's do."""
        return [self._host(number) for number in range(len(self.readers))]

    @property
    def hosts(self) -> list[int]:
        """Numbers of the readers for whom something is computed."""
        return sorted(set(self.host_of))

    def narrowed(self, tensors: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
        """What a reader reads of the tensors of its host."""
        own = self.readers[number].image_needs() == self.readers[self.host_of[number]].image_needs()
        return dict(tensors) if own else {GLOBAL: tensors[GLOBAL]}

    @property
    def bytes(self) -> int:
        """Size of all that is computed, in fp32, without what is the readers' own."""
        return self.rows * sum(self.row_bytes(self.readers[number]) for number in self.hosts)

    @property
    def stored_share(self) -> float:
        """Of that size, what it has on disk."""
        return DTYPES[self.runtime.feature_dtype].itemsize / 4

    def _host(self, number: int) -> int:
        found = number
        for other, reader in enumerate(self.readers):
            if contains(self.backbone, reader, self.readers[found]):
                equal = contains(self.backbone, self.readers[found], reader)
                found = min(found, other) if equal else other
        return found

    def row_bytes(self, reader: FeatureReader) -> int:
        """Size of what a reader keeps of an image in fp32, without what is its own."""
        return feature_bytes(reader.image_needs(), self.backbone, 1)

    def batches(self, part: Part, numbers: Sequence[int], home: torch.device) -> Iterator[list[ImageFeatures]]:
        """What some readers read of a part, batch by batch, in fp32; `part.start` is where a batch begins.

        Args:
            home: device of what is given.

        Raises (while iterating):
            InputError: an image cannot be read.
        """
        readers = [self.readers[number] for number in numbers]
        seed = (self.seed, part.view) if self.views > 1 else None
        for batch in self._images.read(in_batches(range(part.start, part.stop), None, seed, self.batch_size)):
            labels_B = batch.labels_B if self.labelled else None
            found = self.backbone.encode_image_each(batch.images_B3HW, [reader.image_needs() for reader in readers])
            yield [
                self._rounded(replace(features, extra=reader.image_extra(batch.images_B3HW, labels_B)), home)
                for reader, features in zip(readers, found, strict=True)
            ]

    def close(self) -> None:
        """End the processes that decode; they stay from part to part."""
        self._images.close()

    @cached_property
    def _images(self) -> ImageReader:
        transform = self.backbone.transform(train=self.views > 1)
        return ImageReader(self.records, transform, device=self.backbone.device, workers=self.runtime.workers)

    def _rounded(self, features: ImageFeatures, home: torch.device) -> ImageFeatures:
        dtype, kept = DTYPES[self.runtime.feature_dtype], features.to(home, torch.float32)
        return kept if dtype == torch.float32 else kept.to(home, dtype).to(home, torch.float32)


def feature_bytes(needs: ImageNeeds, backbone: Backbone, n_rows: int) -> int:
    """Size of fp32 features of n rows, known before they are computed."""
    vision = backbone.vision
    width = vision.joint_dim if needs.space == "joint" else vision.local_width
    return 4 * n_rows * (vision.joint_dim + (vision.n_local * width if needs.local else 0))


def is_keyed(reader: FeatureReader) -> bool:
    """Whether a reader's key says what it adds of its own, if it adds anything; a method tells by `keyed_features`."""
    return bool(getattr(reader, "keyed_features", True))


def contains(backbone: Backbone, have: FeatureReader, want: FeatureReader) -> bool:
    """Whether what one reader reads holds what another one does, to the bit."""
    if have is want:
        return True
    if have.feature_key() or want.feature_key():  # with something of their own
        return False
    has, wants = have.image_needs(), want.image_needs()
    return has == wants or (wants == ImageNeeds() and has.local is not None and backbone.vision.shares_global(has))

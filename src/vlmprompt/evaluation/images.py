"""Test images and predictions, computed once for all that ask for the same.

Shapes: B images, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.features import CachedFeatures, extract, feature_bytes
from vlmprompt.config.models import Runtime
from vlmprompt.data.records import Dataset
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.passes import Labelled, feature_batches, image_batches, tower_is_frozen, views_of
from vlmprompt.parallel.meeting import current
from vlmprompt.parallel.rows import whole_batches
from vlmprompt.progress import Progress

# Features of test images are kept for other methods up to this size in all; above, each reads the images.
KEPT_BYTES = 2 * 2**30
# Logits are kept for other suites up to this size in all.
KEPT_LOGITS_BYTES = 2**28


@dataclass(frozen=True)
class Predictions:
    """What a method says of a split.

    Attributes:
        logits_BK: float32 (float64 where they were divided by a temperature), on the CPU.
        labels_B: on the CPU.
    """

    logits_BK: Tensor
    labels_B: Tensor

    def __len__(self) -> int:
        return len(self.labels_B)

    @property
    def bytes(self) -> int:
        """Size of both."""
        return sum(t.numel() * t.element_size() for t in (self.logits_BK, self.labels_B))


class _Sized(Protocol):
    @property
    def bytes(self) -> int: ...


Thing = TypeVar("Thing", bound=_Sized)


class Kept(Generic[Thing]):
    """Results kept by key up to a total size; the oldest make room, the newest always stays.

    Args:
        limit: bytes in all.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._things: dict[Hashable, Thing] = {}

    def get(self, key: Hashable, make: Callable[[], Thing]) -> Thing:
        """What is kept, or what is made now."""
        if key not in self._things:
            self._things[key] = make()
            while len(self._things) > 1 and sum(thing.bytes for thing in self._things.values()) > self.limit:
                del self._things[next(iter(self._things))]
        return self._things[key]


class ImageBank:
    """Test images of one backbone, run through a frozen image tower once for all methods that read the same.

    Attributes:
        predictions: of whole splits, so that suites which ask for the same share them.

    Args:
        load: gives the towers, called when they are first needed.
        batch_size: images a step.
    """

    def __init__(self, load: Callable[[], Backbone], runtime: Runtime, *, batch_size: int, progress: Progress) -> None:
        self.progress = progress
        self.predictions: Kept[Predictions] = Kept(KEPT_LOGITS_BYTES)
        self._load = load
        self._runtime = runtime
        self._batch_size = batch_size
        self._features: Kept[CachedFeatures] = Kept(KEPT_BYTES)

    @property
    def root(self) -> Path | None:
        """The parent folder of data sets."""
        return self._runtime.root

    @cached_property
    def backbone(self) -> Backbone:
        """The towers."""
        return self._load()

    def own(self, n: int) -> range:
        """Which of n images this process says something of, where several measure together."""
        return whole_batches(current(), n, self._batch_size)

    def batches(
        self, method: PromptMethod, dataset: Dataset, split: str, *, order: Sequence[int] | None = None, seed: int = 0
    ) -> tuple[Iterator[Labelled], bool]:
        """Images or their features with labels; and whether they are features.

        Features are computed before this returns, images are read while iterating. A method that sees several views of
        each test image is given images, (B,V,3,H,W).

        Args:
            order: of the images; default: that of the split.
            seed: of their views.

        Raises:
            InputError: no such split, or an image cannot be read.
        """
        views = views_of(method, seed)
        if views is None and self._shares(method, dataset, split):
            kept = self._extracted(method, dataset, split)
            return feature_batches(kept, self._batch_size, self.backbone.device, order=order), True
        records, workers = dataset.split(split), self._runtime.workers
        batches = image_batches(records, self.backbone, self._batch_size, workers=workers, order=order, views=views)
        return batches, False

    def _shares(self, method: PromptMethod, dataset: Dataset, split: str) -> bool:
        """A tower that the method does not touch gives the same features to all, if they can be held."""
        size = feature_bytes(method.image_needs(), self.backbone, len(dataset.split(split)))
        return tower_is_frozen(method) and size <= self._features.limit

    def _extracted(self, method: PromptMethod, dataset: Dataset, split: str) -> CachedFeatures:
        key = (dataset.shown(split), method.image_needs(), method.feature_key())
        with method.blamed(wide=True):
            return self._features.get(
                key,
                lambda: extract(
                    method,
                    dataset.split(split),
                    backbone=self.backbone,
                    runtime=self._runtime,
                    batch_size=self._batch_size,
                    progress=self.progress,
                    description=f"{split} images of {dataset.name}",
                ),
            )

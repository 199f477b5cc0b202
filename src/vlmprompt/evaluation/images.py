"""Test images and predictions, computed once for all that ask for the same.

Shapes: B images, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.cached import CachedFeatures
from vlmprompt.backbones.extraction import Extraction, FeatureReader, PlainReader, contains
from vlmprompt.backbones.features import carry_out, fits_store
from vlmprompt.backbones.types import ImageNeeds
from vlmprompt.config.models import FeatureDtype, Runtime
from vlmprompt.data.records import Dataset, Record
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
    def held(self) -> int:
        """Bytes of both, in memory."""
        return sum(t.numel() * t.element_size() for t in (self.logits_BK, self.labels_B))


class _Sized(Protocol):
    @property
    def held(self) -> int: ...


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
            self.add(key, make())
        return self._things[key]

    def add(self, key: Hashable, thing: Thing) -> None:
        """Keep something."""
        self._things[key] = thing
        while len(self._things) > 1 and sum(thing.held for thing in self._things.values()) > self.limit:
            del self._things[next(iter(self._things))]

    def __contains__(self, key: Hashable) -> bool:
        return key in self._things

    def items(self) -> list[tuple[Any, Thing]]:
        """What is kept, with its keys."""
        return [*self._things.items()]


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
        self._expected: dict[Hashable, list[PlainReader]] = {}

    @property
    def root(self) -> Path | None:
        """The parent folder of data sets."""
        return self._runtime.root

    @cached_property
    def backbone(self) -> Backbone:
        """The towers."""
        return self._load()

    @property
    def feature_dtype(self) -> FeatureDtype:
        """The type that features are rounded to."""
        return self._runtime.feature_dtype

    def expect(self, needs: ImageNeeds, dataset: Dataset, split: str) -> None:
        """Be told what will be read of images: when they first go through the tower, it gives all that is expected."""
        if needs.local is not None and not self.backbone.vision.n_local:
            return
        expected = self._expected.setdefault(dataset.shown(split), [])
        if PlainReader(needs) not in expected:
            expected.append(PlainReader(needs))

    def expect_no_more(self) -> None:
        """Forget who was expected."""
        self._expected.clear()

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
        return tower_is_frozen(method) and self._holds([method], dataset.split(split))

    def _holds(self, readers: Sequence[FeatureReader], records: Sequence[Record]) -> bool:
        """Whether features can be held for readers together: in memory, or in the store."""
        work = self._work(readers, records)
        return work.bytes <= self._features.limit or fits_store(work, self.progress)

    def _extracted(self, method: PromptMethod, dataset: Dataset, split: str) -> CachedFeatures:
        records, shown = dataset.split(split), dataset.shown(split)
        key = _key(shown, method)
        with method.blamed(wide=True):
            if key not in self._features:
                self._from_kept(method, shown)
            if key not in self._features:
                readers = self._together(method, shown, records)
                found = carry_out(self._work(readers, records), self.progress, f"{split} images of {dataset.name}")
                for reader, features in reversed([*zip(readers, found, strict=True)]):  # the newest always stays
                    self._features.add(_key(shown, reader), features)
            return self._features.get(key, lambda: found[0])

    def _from_kept(self, method: PromptMethod, shown: Hashable) -> None:
        """Keep what a method needs as a part of what is kept for another, if it is one."""
        for kept, features in self._features.items():
            images, needs, own = kept
            if images == shown and not own and contains(self.backbone, PlainReader(needs), method):
                self._features.add(_key(shown, method), features.global_only())
                return

    def _together(self, method: PromptMethod, shown: Hashable, records: Sequence[Record]) -> list[FeatureReader]:
        """A method, and who else is expected to read the same images, as far as all can be held."""
        readers: list[FeatureReader] = [method]
        for other in self._expected.get(shown, ()):
            known = _key(shown, other) in self._features or any(_key(shown, other) == _key(shown, r) for r in readers)
            if not known and self._holds([*readers, other], records):
                readers.append(other)
        return readers

    def _work(self, readers: Sequence[FeatureReader], records: Sequence[Record]) -> Extraction:
        return Extraction(tuple(readers), records, self.backbone, self._runtime, 1, 0, self._batch_size, True)


def _key(shown: Hashable, reader: FeatureReader) -> Hashable:
    return shown, reader.image_needs(), reader.feature_key()

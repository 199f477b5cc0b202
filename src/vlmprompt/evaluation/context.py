"""What suites measure with: predictions of any method on any split, images read as seldom as possible.

Shapes: B images, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.features import CachedFeatures, extract, feature_bytes
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.config.models import Runtime
from vlmprompt.data.classes import base_new_labels
from vlmprompt.data.loader import ImageLoader
from vlmprompt.data.records import Dataset
from vlmprompt.errors import InputError
from vlmprompt.evaluation.contract import Subject
from vlmprompt.methods.contract import MethodOutput, PromptMethod
from vlmprompt.progress import Progress

# Features of test images are kept for other methods up to this size in all; above, each reads the images.
KEPT_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Predictions:
    """What a method says of a split.

    Attributes:
        logits_BK: float32, on the CPU.
        labels_B: on the CPU.
    """

    logits_BK: Tensor
    labels_B: Tensor

    def __len__(self) -> int:
        return len(self.labels_B)


class ImageBank:
    """Test images of one backbone, run through a frozen image tower once for all methods that read the same.

    Args:
        load: gives the towers, called when they are first needed.
        batch_size: images a step.
    """

    def __init__(self, load: Callable[[], Backbone], runtime: Runtime, *, batch_size: int, progress: Progress) -> None:
        self._load = load
        self.progress = progress
        self._runtime = runtime
        self._batch_size = batch_size
        self._kept: dict[tuple[object, ...], CachedFeatures] = {}

    @cached_property
    def backbone(self) -> Backbone:
        """The towers."""
        return self._load()

    def batches(
        self, method: PromptMethod, dataset: Dataset, split: str
    ) -> Iterator[tuple[Tensor | ImageFeatures, Tensor]]:
        """Images or their features, and labels, in the order of the split.

        Raises:
            InputError: no such split, or an image cannot be read.
        """
        if self._shares(method, dataset, split):
            yield from self._from_features(method, dataset, split)
        else:
            yield from self._from_images(dataset, split)

    def _shares(self, method: PromptMethod, dataset: Dataset, split: str) -> bool:
        """A tower that the method does not touch gives the same features to all, if they can be held."""
        needs = method.image_needs()
        if needs.grad or "feature_cache" not in method.capabilities:
            return False
        return feature_bytes(needs, self.backbone, len(dataset.split(split))) <= KEPT_BYTES

    def _from_features(
        self, method: PromptMethod, dataset: Dataset, split: str
    ) -> Iterator[tuple[ImageFeatures, Tensor]]:
        key = (dataset.spec, dataset.digest, split, method.image_needs(), method.feature_key())
        if key not in self._kept:
            self._kept[key] = extract(
                method,
                dataset.split(split),
                backbone=self.backbone,
                runtime=self._runtime,
                batch_size=self._batch_size,
                progress=self.progress,
                description=f"{split} images of {dataset.name}",
            )
            self._drop_oldest()
        kept = self._kept[key]
        for start in range(0, len(kept.labels), self._batch_size):
            part = slice(start, start + self._batch_size)
            yield kept.features[part].to(self.backbone.device), kept.labels[part]

    def _drop_oldest(self) -> None:
        while len(self._kept) > 1 and sum(kept.bytes for kept in self._kept.values()) > KEPT_BYTES:
            del self._kept[next(iter(self._kept))]

    def _from_images(self, dataset: Dataset, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        loader = ImageLoader(
            dataset.split(split),
            self.backbone.transform(train=False),
            self._batch_size,
            device=self.backbone.device,
            workers=self._runtime.workers,
        )
        return ((batch.images_B3HW, batch.labels_B) for batch in loader)


class Context:
    """One subject on one data set, for suites.

    Attributes:
        subject: who is measured.
        dataset: with all its classes.
    """

    def __init__(self, subject: Subject, dataset: Dataset, bank: ImageBank) -> None:
        self.subject = subject
        self.dataset = dataset
        self._bank = bank
        self._built: dict[str, PromptMethod] = {}

    @cached_property
    def data_digest(self) -> str:
        """The digest of the data set."""
        return self.dataset.digest

    @cached_property
    def trained(self) -> Dataset:
        """The data set over the classes that the subject was trained on."""
        return trained_classes(self.dataset, self.subject.config.setting)

    @cached_property
    def siblings(self) -> Mapping[int | None, Subject]:
        """Shots -> the subject trained with these shots and all else equal, itself included."""
        return self.subject.siblings()

    def method(self, subject: Subject | None = None) -> PromptMethod:
        """A subject's method, built once; default the context's own.

        Raises:
            InputError: its classes are not those of the data set.
        """
        subject = subject or self.subject
        name = f"{subject.config.model_dump_json()}{subject.digest}"
        if name not in self._built:
            method = subject.build().eval()
            if method.class_names != self.trained.class_names:
                raise InputError(
                    f"data set {self.dataset.spec!r} has other classes than {subject.run} was trained on",
                    hint="evaluate on the data as they were, or train again",
                )
            self._built[name] = method
        return self._built[name]

    def outputs(
        self, method: PromptMethod, dataset: Dataset, split: str = "test"
    ) -> Iterator[tuple[MethodOutput, Tensor]]:
        """What the method says of each batch, and the labels; text is encoded once, nothing is trained.

        Args:
            method: over the classes of `dataset`.
        """
        method.eval()
        with torch.no_grad():
            text = method.frozen_text()
        n_images = len(dataset.split(split))
        title = f"{self.subject.config.method} on {split} images of {dataset.name}"
        with self._bank.progress.task(title, n_images, unit="img") as task:
            for images, labels_B in self._bank.batches(method, dataset, split):
                # Not around the yield: the mode must not leak into the consumer's code.
                with torch.no_grad():
                    output = method(images, text=text)
                yield output, labels_B
                task.advance(len(labels_B))

    def predict(self, method: PromptMethod, dataset: Dataset, split: str = "test") -> Predictions:
        """Logits and labels of a whole split.

        Args:
            method: over the classes of `dataset`.

        Raises:
            InputError: no such split, or an image cannot be read.
        """
        pairs = [(output.logits.float(), labels_B) for output, labels_B in self.outputs(method, dataset, split)]
        logits_BK, labels_B = (torch.cat(parts).cpu() for parts in zip(*pairs, strict=True))
        return Predictions(logits_BK, labels_B)


def trained_classes(dataset: Dataset, setting: str) -> Dataset:
    """The data set over the classes that a setting trains on: the base half, or all."""
    if setting != "base-to-new":
        return dataset
    base, _ = base_new_labels(len(dataset.class_names))
    return dataset.restrict(base, suffix="-base")

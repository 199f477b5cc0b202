"""Which images are shown: those that somebody names, or some of the test images of a run, chosen by a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.models import Runtime
from vlmprompt.data.images import read_image
from vlmprompt.data.named_images import image_files, label_of
from vlmprompt.data.records import Record
from vlmprompt.errors import InputError
from vlmprompt.methods.frozen import FrozenMethod
from vlmprompt.progress import Progress
from vlmprompt.training.runs import Run

Which = Literal["random", "mistakes"]
WHICH: tuple[Which, ...] = ("random", "mistakes")
BATCH = 8  # images a step: few, because plans of all classes are held


@dataclass(frozen=True)
class Seen:
    """An image as the tower sees it.

    Attributes:
        record: where it comes from.
        label: its class among those of the run; None where nobody knows.
        pixels_3HW: what the transform gives.
    """

    record: Record
    label: int | None
    pixels_3HW: Tensor


@dataclass
class Reading:
    """Reads images; one that cannot be read is noted, and left out."""

    backbone: Backbone
    progress: Progress
    failed: list[InputError] = field(default_factory=list)

    def __call__(self, wanted: Iterable[tuple[Record, int | None]]) -> Iterator[Seen]:
        """The images that can be read, in order."""
        transform = self.backbone.transform(train=False)
        for record, label in wanted:
            try:
                image = read_image(record)
            except InputError as error:
                self.failed.append(error)
                self.progress.warn(error.told)
                continue
            yield Seen(record, label, transform(image))


def named_images(run: Run, named: Sequence[Path | str | Record]) -> list[tuple[Record, int | None]]:
    """Images by their files, folders or records, each once; the class of a file is told by its folder's name.

    Raises:
        InputError: there is no such file, or no image in a folder.
    """
    found: dict[Path | str, tuple[Record, int | None]] = {}
    for one in named:
        if isinstance(one, Record):
            found[one.id] = (one, one.label if 0 <= one.label < len(run.class_names) else None)
            continue
        for file in image_files([one]):
            label = label_of(file, run.class_names)
            found[file] = (Record(file.as_posix(), -1 if label is None else label, file, run.config.exif), label)
    return list(found.values())


def shuffled_test(run: Run, seed: int, runtime: Runtime | None) -> list[tuple[Record, int | None]]:
    """The test images of the classes that the run was trained on, shuffled by Python's `random.Random(seed)`.

    Raises:
        InputError: the data are gone, or there are no test images.
    """
    dataset = run.load_dataset(runtime, allow_overlap=True)
    labels = run.info.data.labels
    if len(labels) < len(dataset.class_names):
        dataset = dataset.restrict(labels, suffix="")
    records = list(dataset.split("test"))
    random.Random(seed).shuffle(records)
    return [(record, record.label) for record in records]


def mistakes(seen: Iterable[Seen], frozen: FrozenMethod, count: int, watch: Callable[[int], None]) -> Iterator[Seen]:
    """The first images whose likeliest class is not their own; no more are read than it takes to find them.

    Args:
        watch: told the number of images after each batch.
    """
    for batch in batches(seen):
        predicted_B = frozen(stacked(batch, frozen)).logits.argmax(dim=-1).tolist()
        wrong = [one for one, label in zip(batch, predicted_B, strict=True) if one.label != label]
        yield from wrong[:count]
        watch(len(batch))
        count -= len(wrong)
        if count <= 0:
            return


def batches(seen: Iterable[Seen]) -> Iterator[list[Seen]]:
    """Images in parts of `BATCH`, read no further than needed."""
    source = iter(seen)
    while part := list(islice(source, BATCH)):
        yield part


def stacked(batch: Sequence[Seen], frozen: FrozenMethod) -> Tensor:
    """The images of a batch where the tower is: (B,3,H,W)."""
    return torch.stack([one.pixels_3HW for one in batch]).to(frozen.method.backbone.device)

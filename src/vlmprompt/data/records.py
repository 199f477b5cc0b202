"""What a data set is to the rest of the toolkit: class names, and records by split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from vlmprompt.data.contents import files_digest, images_key
from vlmprompt.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

SPLITS = ("train", "val", "test")


class ImageSource(Protocol):
    """An image that is not a file: rendered, altered or held in memory. Must be picklable (workers load it).

    A source may have a `key`, a text that identifies the image among those of its type: everything that its pixels
    depend on, such as the `image_key` of an original image and how it was altered. Features and predictions are stored
    under this key; without one they are kept only for this Python object, and never on disk.
    A source may set `kept = True` if the process that has loaded an image keeps it in memory.
    """

    def load(self) -> Image:
        """The RGB image."""


class EncodedSource(Protocol):
    """An image file within another file. Must be picklable."""

    def encoded(self) -> tuple[BinaryIO | Path, str]:
        """The file, and what to call it in errors."""


@dataclass(frozen=True, slots=True)
class Record:
    """One labelled image.

    Attributes:
        id: stable name inside the data set, a relative path with forward slashes or a key.
        label: index into the data set's class names.
        image: the source of the pixels.
        upright: read the image as a viewer shows it, not as it is stored (see `images.decode`).
    """

    id: str
    label: int
    image: Path | ImageSource | EncodedSource
    upright: bool = False


@dataclass(frozen=True, repr=False)
class Dataset:
    """A labelled image collection.

    Attributes:
        name: short name for tables and run folders, such as "photos".
        spec: the user's spelling of it, such as "folder:photos".
        class_names: in label order, as spelled in prompts.
        splits: "train", "val", "test" (or some of them) -> records in a fixed order.
        template: the usual zero-shot template for this data set.
        notes: choices made while reading (the split seed, cleaned names); they are recorded in run.json.
        companions: specs of the data sets that this one is evaluated with, by kind: "domains" (the same classes in
            another style), "targets" (other classes, to transfer to), "ood" (none of its classes).
        descriptions: descriptions of each class, in label order; None until they are looked up.
        described_by: name of a data set whose descriptions can be used for these classes too, matched by name.
        by_contents: test images are identified by their bytes, not by size and time; see `measured_digest`.
    """

    name: str
    spec: str
    class_names: tuple[str, ...]
    splits: Mapping[str, tuple[Record, ...]]
    template: str = "a photo of a {}."
    notes: Mapping[str, object] = field(default_factory=dict)
    companions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    descriptions: tuple[tuple[str, ...], ...] | None = None
    described_by: str | None = None
    by_contents: bool = False

    def __repr__(self) -> str:
        counts = [f"{name} {len(records):,}" for name, records in self.splits.items()]
        return f"Dataset({self.spec!r}, {', '.join([f'{len(self.class_names):,} classes', *counts])})"

    @property
    def warnings(self) -> list[str]:
        """Warnings from reading the data, taken from the notes."""
        found = self.notes.get("warnings", ())
        return [str(warning) for warning in found] if isinstance(found, list | tuple) else []

    @property
    def digest(self) -> str:
        """SHA-256 of the class names, the (id, label) pairs of every split, and whether images are read upright.

        Descriptions have a separate digest.
        """
        content: dict[str, object] = {
            "classes": self.class_names,
            "splits": {split: [(r.id, r.label) for r in records] for split, records in sorted(self.splits.items())},
        }
        if any(record.upright for records in self.splits.values() for record in records):
            content["upright"] = True
        return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()

    @cached_property
    def measured_digest(self) -> str:
        """SHA-256 of everything that a number on the test split depends on: the lists, and the files as they are.

        Files are identified by size and modification time at the first use of this property, or by their bytes.
        """
        files = files_digest(self.splits.get("test", ()), contents=self.by_contents)
        return hashlib.sha256(f"{self.digest} {files}".encode()).hexdigest()

    def shown(self, split: str) -> Hashable:
        """The key under which predictions on a split are kept: the data set, and its images at the first call.

        It differs between two data sets that have different images under the same ids.
        """
        if split not in self._shown:
            self._shown[split] = images_key(self.splits.get(split, ()))
        return self.spec, self.digest, split, self._shown[split]

    @cached_property
    def _shown(self) -> dict[str, Hashable]:
        return {}

    def split(self, name: str) -> tuple[Record, ...]:
        """The records of a split.

        Raises:
            InputError: the data set has no such split, or it is empty.
        """
        records = self.splits.get(name, ())
        if not records:
            have = ", ".join(f"{k} ({len(v)})" for k, v in self.splits.items() if v)
            raise InputError(f"data set {self.spec!r} has no {name} images", hint=f"it has: {have or 'nothing'}")
        return records

    def restrict(self, labels: Sequence[int], *, suffix: str) -> Dataset:
        """The data set over some of its classes only, relabelled from 0 in the order of `labels`."""
        new = {old: i for i, old in enumerate(labels)}
        splits = {
            split: tuple(replace(r, label=new[r.label]) for r in records if r.label in new)
            for split, records in self.splits.items()
        }
        names = tuple(self.class_names[i] for i in labels)
        texts = None if self.descriptions is None else tuple(self.descriptions[i] for i in labels)
        return replace(self, name=f"{self.name}{suffix}", class_names=names, splits=splits, descriptions=texts)


def records_digest(records: Sequence[Record]) -> str:
    """SHA-256 over the (id, label) pairs, in order."""
    return hashlib.sha256(json.dumps([(r.id, r.label) for r in records], ensure_ascii=False).encode()).hexdigest()

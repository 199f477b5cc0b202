"""What is known of the benchmark data sets, from benchmarks.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from vlmprompt.errors import UsageError, did_you_mean

SPLITS_SOURCE = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"
# A collection that papers of 2025 and 2026 point to: zip files of 14 benchmarks in CoOp's layout, with the published
# split files, by what its card and the code around it say. Nobody has held its images against the originals here.
COPIES = "zhengli97/prompt_learning_dataset"
# How other codebases call them, without case, "-" and "_".
OTHER_NAMES = {
    "aircraft": "fgvc_aircraft",
    "caltech": "caltech101",
    "cars": "stanford_cars",
    "describabletextures": "dtd",
    "flowers": "flowers102",
    "food": "food101",
    "oxfordflowers": "flowers102",
    "pets": "oxford_pets",
    "sun": "sun397",
    "ucf": "ucf101",
}


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SplitFile(_Facts):
    """A JSON file {"train": [[path, label, class name], ...], "val": ..., "test": ...}.

    Attributes:
        sha256: of the published file, or its first digits; empty where nobody has recorded it.
    """

    file: str
    sha256: str = ""


class Lists(_Facts):
    """Text files: class names, one a line, and for each split a line "<image name> <class name>" an image."""

    classes: str
    splits: dict[str, str]


class ClassFolders(_Facts):
    """One folder a class.

    Attributes:
        synsets: the list of WordNet ids that are the classes.
        splits: split -> its folder below the image folder.
        named_by: folders are called by the id, or by its place among the sorted ids.
    """

    synsets: Literal["imagenet", "imagenet_a", "imagenet_r"]
    splits: dict[str, str]
    named_by: Literal["wnid", "index"] = "wnid"


class Variation(_Facts):
    """What is different under a protocol."""

    images: dict[str, int]
    lists: Lists


class Benchmark(_Facts):
    """One data set; benchmarks.toml says what each field means. `name` is its table's."""

    name: str
    title: str
    classes: int
    images: dict[str, int]
    template: str
    folders: tuple[str, ...]
    image_folders: tuple[str, ...]
    within: tuple[str, ...] = ()
    unlisted: str = ""
    source: str
    archive: str = ""
    split: SplitFile | None = None
    lists: Lists | None = None
    class_folders: ClassFolders | None = None
    protocols: dict[str, Variation] = Field(default_factory=dict)
    companions: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    @property
    def spec(self) -> str:
        """What users write."""
        return f"coop:{self.name}"

    @property
    def layout(self) -> str:
        """The usual place of its images, for hints."""
        below = [] if self.image_folders[0] == "." else [self.image_folders[0]]
        return "/".join([self.folders[0], *below])

    @property
    def had_from(self) -> str:
        """Where it is had, for hints."""
        copy = f", or as {self.archive} of https://huggingface.co/{COPIES} (not verified here)"
        return self.source + (copy if self.archive else "")

    def under(self, protocol: str) -> Benchmark:
        """The data set as a protocol has it."""
        variation = self.protocols.get(protocol)
        return self if variation is None else self.model_copy(update=dict(variation))


@cache
def benchmarks() -> Mapping[str, Benchmark]:
    """All of them by name, in the papers' order."""
    text = resources.files(__package__).joinpath("benchmarks.toml").read_text(encoding="utf-8")
    return {name: Benchmark(name=name, **facts) for name, facts in tomllib.loads(text).items()}


def benchmark(name: str) -> Benchmark:
    """One of them.

    Raises:
        UsageError: there is none of this name.
    """
    known = benchmarks()
    if name in known:
        return known[name]
    meant = (OTHER_NAMES | {_plain(key): key for key in known}).get(_plain(name))
    hint = f"it is called coop:{meant} here" if meant else did_you_mean(name, known)
    raise UsageError(f"unknown benchmark data set 'coop:{name}'", hint=hint)


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")

"""The sets that in-distribution (ID) images are told from: named by a data set, by a user, or by a benchmark.

A benchmark is an entry of ood_benchmarks.toml: published sets in the folders and lists of the papers' codes,
with their counts. Nothing is downloaded; what is missing is named with where it is had.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from importlib import resources
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict

from vlmprompt.data.files import check_inside, images_below
from vlmprompt.data.folder import outliers
from vlmprompt.data.load import short_names
from vlmprompt.data.records import Dataset
from vlmprompt.errors import InputError, UsageError, did_you_mean
from vlmprompt.regular import regular


@dataclass(frozen=True)
class OodSet:
    """One set.

    Attributes:
        name: in result rows.
        group: "near", "far", or empty.
        spec: what it is read from, for keys and errors.
        load: reads it.
    """

    name: str
    group: str
    spec: str
    load: Callable[[], Dataset]

    @cached_property
    def dataset(self) -> Dataset:
        """Its images, as the split "test".

        Raises:
            InputError: it is not there, or not as it should be.
        """
        return self.load()


def sets_of(groups: Mapping[str, Sequence[str]], load: Callable[[str], Dataset]) -> list[OodSet]:
    """Sets by their specs, read when they are needed.

    Args:
        groups: "near", "far" or "" -> data set specs.
        load: reads one, as `load_outliers` does.
    """
    names = short_names([spec for specs in groups.values() for spec in specs])
    return [
        OodSet(names[spec], group, spec, partial(load, spec))
        for group, specs in groups.items()
        for spec in dict.fromkeys(specs)
    ]


class BenchmarkSet(BaseModel):
    """A published set.

    Attributes:
        images: how many it has.
        folders: where they are, of several layouts the first that is there.
        list: text file with one "path label" a line; without one, all images below the folder.
        had_from: where it is had.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    group: str = ""
    images: int
    folders: tuple[str, ...]
    list: str | None = None
    had_from: str


class Benchmark(BaseModel):
    """A published collection of sets.

    Attributes:
        bases: folders that hold it, below the working directory or the root.
        id_images: ID images that published numbers are on.
        id_list: their list, where it is not the whole test set.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    summary: str
    bases: tuple[str, ...]
    id_images: int
    id_list: str | None = None
    sets: tuple[BenchmarkSet, ...]

    def ood_sets(self, *, root: Path | None) -> list[OodSet]:
        """The sets, read when they are needed; a wrong number of images is an error then."""
        return [OodSet(s.name, s.group, s.name, partial(self._load, s, root)) for s in self.sets]

    def id_part(self, dataset: Dataset, *, root: Path | None) -> Dataset:
        """The ID images that published numbers are on; the whole test set where none of them is known by name.

        Raises:
            InputError: the list of these images is not there.
        """
        if self.id_list is None:
            return dataset
        path = next(self._existing(root, (self.id_list,)), None)
        if path is None:
            raise InputError(f"there is no {self.id_list}", hint=f"it is had with {self.sets[0].had_from}")
        listed = {PurePosixPath(name).name for name in _listed(path)}
        kept = tuple(r for r in dataset.split("test") if PurePosixPath(r.id).name in listed)
        return replace(dataset, splits={**dataset.splits, "test": kept}) if kept else dataset

    def _load(self, entry: BenchmarkSet, root: Path | None) -> Dataset:
        folder = next(self._existing(root, entry.folders), None)
        found = None if entry.list is None else next(self._existing(root, (entry.list,)), None)
        if folder is None or (entry.list is not None and found is None):
            wanted = entry.folders if folder is None else (entry.list,)
            raise InputError(
                f"OOD set {entry.name} is not there: no {' or '.join(map(str, wanted))} "
                f"in {' or '.join(self.bases)} below {' or '.join(map(str, _places(root)))}",
                hint=f"it is had from {entry.had_from}; --root names the parent folder",
            )
        names = images_below(folder, what="OOD set") if found is None else _present(found, folder)
        if len(names) != entry.images:
            raise InputError(
                f"OOD set {entry.name} in {folder} has {len(names):,} images, the published one {entry.images:,}",
                hint=f"complete it ({entry.had_from}), or measure on what is there: --ood folder:{folder}",
            )
        return replace(outliers(folder, names, entry.name), name=entry.name)

    def _existing(self, root: Path | None, relative: Sequence[str]) -> Iterator[Path]:
        candidates = (place / base / name for place in _places(root) for base in self.bases for name in relative)
        return (path for path in candidates if path.exists())


@cache
def benchmarks() -> Mapping[str, Benchmark]:
    """All of them, by name."""
    text = resources.files("vlmprompt.data").joinpath("ood_benchmarks.toml").read_text(encoding="utf-8")
    return {name: Benchmark.model_validate(entry) for name, entry in tomllib.loads(text).items()}


def benchmark(name: str) -> Benchmark:
    """One by name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in benchmarks():
        raise UsageError(f"unknown OOD benchmark {name!r}", hint=did_you_mean(name, benchmarks()))
    return benchmarks()[name]


def _places(root: Path | None) -> list[Path]:
    return [Path(), *([] if root is None else [root])]


def _listed(path: Path) -> list[str]:
    """The paths of an image list, "path label" a line.

    Raises:
        InputError: it cannot be read, or a path leaves the image folder.
    """
    try:
        lines = regular(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read image list {path}: {error}") from error
    numbered = {i: line.rsplit(maxsplit=1)[0] for i, line in enumerate(lines, 1) if line.strip()}
    for i, name in numbered.items():
        check_inside(name, path, f"line {i}")
    return list(numbered.values())


def _present(path: Path, folder: Path) -> list[str]:
    """The paths of an image list, all of which must be there."""
    names = _listed(path)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        more = f" (nor are {len(missing) - 1:,} more of its {len(names):,})" if len(missing) > 1 else ""
        raise InputError(f"image {missing[0]} of list {path} is not in {folder}{more}")
    return names

"""Where descriptions of a data set's classes are found."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from vlmprompt.data.records import Dataset
from vlmprompt.describe.lines import Line, parse_lines, written
from vlmprompt.errors import CapabilityError, InputError
from vlmprompt.regular import named_path, regular

FOLDER = "prompts_cache"
SUFFIX = ".jsonl"
# Written from the built-in drawings; gives way to any other file beside it.
SHIPPED = "parts--"
LONGEST_FILE_NAME = 200  # bytes; most file systems take 255, and writing adds to the name
Texts = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, repr=False)
class DescriptionFile:
    """A file of descriptions.

    Attributes:
        path: where it was found.
        content: its bytes.
        lines: what they say.
    """

    path: Path
    content: bytes
    lines: tuple[Line, ...]

    @classmethod
    def read(cls, path: Path | str) -> DescriptionFile:
        """Read a file.

        Raises:
            InputError: it cannot be read, or is damaged (see `parse_lines`).
        """
        try:
            path = named_path(path)
            content = regular(path).read_bytes()
        except OSError as error:
            raise InputError(
                f"cannot read the descriptions {path}: {error.strerror}",
                hint="check --descriptions; 'vlmprompt describe-classes' makes such a file",
            ) from error
        return cls(path, content, parse_lines(content, path))

    def __repr__(self) -> str:
        return f"DescriptionFile({str(self.path)!r}, {len(self.lines)} descriptions)"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the bytes."""
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def providers(self) -> tuple[str, ...]:
        """Who gave the descriptions: "provider model", sorted."""
        return tuple(sorted({f"{line.provider} {line.model}".strip() for line in self.lines} - {""}))

    def texts(self, class_names: Sequence[str]) -> Texts:
        """The descriptions of each class by its index, none where there are none.

        Raises:
            InputError: the file was written for another list of classes.
        """
        found: dict[int, list[str]] = {i: [] for i in range(len(class_names))}
        for line in self.lines:
            known = class_names[line.class_index] if line.class_index in found else None
            if known is None or written(known) != written(line.name):
                here = f"there are {len(class_names)} classes here" if known is None else f"here it is {known!r}"
                raise InputError(
                    f"{self.path} describes other classes: class {line.class_index} is {line.name!r} there, {here}",
                    hint="give a file for these classes with --descriptions, or make one with "
                    "'vlmprompt describe-classes'",
                )
            found[line.class_index].append(line.description)
        return tuple(tuple(texts) for texts in found.values())

    def texts_by_name(self, class_names: Sequence[str]) -> Texts:
        """The same for some of the file's classes, found by their names."""
        found: dict[str, list[str]] = {written(name): [] for name in class_names}
        for line in self.lines:
            if written(line.name) in found:
                found[written(line.name)].append(line.description)
        return tuple(tuple(found[written(name)]) for name in class_names)


def describe(dataset: Dataset, file: DescriptionFile, *, need: Sequence[int] = ()) -> Dataset:
    """The data set with a file's descriptions of its classes.

    Args:
        need: labels of classes that must have some.

    Raises:
        InputError: the file describes other classes.
        CapabilityError: it lacks one that it must not.
    """
    by_name = dataset.described_by is not None and file.path.parent.name == folder_name(dataset.described_by)
    texts = file.texts_by_name(dataset.class_names) if by_name else file.texts(dataset.class_names)
    missing = [dataset.class_names[label] for label in need if not texts[label]]
    if missing:
        names = ", ".join(repr(name) for name in missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise CapabilityError(
            f"{file.path} does not describe {len(missing)} of {len(need)} classes: {names}",
            hint=f"describe them: {command(dataset)}; or do without: --allow-missing",
        )
    return replace(dataset, descriptions=texts)


def find(dataset: Dataset) -> DescriptionFile | None:
    """The descriptions of a data set: of ./prompts_cache, the user's data directory, or shipped ones.

    Returns:
        None if there are none in any of these places.

    Raises:
        InputError: two files in one place and nothing to choose by, or a damaged file.
    """
    for name in dict.fromkeys((dataset.name, dataset.described_by or dataset.name)):
        for place in places():
            path = _only(sorted((place / folder_name(name)).glob(f"*{SUFFIX}")), name)
            if path is None:
                continue
            file = DescriptionFile.read(path)
            if name == dataset.name or any(file.texts_by_name(dataset.class_names)):
                return file
    return None


def choose(dataset: Dataset, file: Path | str | None = None) -> DescriptionFile:
    """The descriptions in a file, or else those that are found for the data set.

    Raises:
        CapabilityError: there are none; the hint names the command that makes them.
        InputError: see `find`.
    """
    found = find(dataset) if file is None else DescriptionFile.read(file)
    if found is None:
        raise CapabilityError(
            f"there are no descriptions of the classes of {dataset.spec!r}",
            hint=f"make them: {command(dataset)}; or name a file with --descriptions",
        )
    return found


def command(dataset: Dataset) -> str:
    """The command that makes descriptions of a data set's classes."""
    return f"vlmprompt describe-classes --data {dataset.spec}"


def places() -> list[Path]:
    """Where descriptions are looked up, in this order; each holds a folder for every data set."""
    from platformdirs import user_data_dir

    package = Path(__file__).parents[1]
    shipped = package / FOLDER
    # A checkout has them beside src/; building a distribution copies them into the package.
    checkout = package.parents[1] / FOLDER
    return [Path(FOLDER), Path(user_data_dir("vlmprompt")) / FOLDER, shipped if shipped.is_dir() else checkout]


def folder_name(dataset: str) -> str:
    """A data set's name, safe as a folder's: of no other folder, and no longer than file systems take."""
    name = re.sub(r"[^\w.-]+", "_", dataset)
    return bounded(name if name.strip(".") else name.replace(".", "_") or "_")


def bounded(name: str) -> str:
    """A file's name, where it is too long its beginning and a digest of the whole."""
    if len(name.encode()) <= LONGEST_FILE_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return name.encode()[: LONGEST_FILE_NAME - len(digest) - 1].decode(errors="ignore") + f"-{digest}"


def _only(paths: Sequence[Path], dataset: str) -> Path | None:
    chosen = [path for path in paths if not path.name.startswith(SHIPPED)] or list(paths)
    if len(chosen) > 1:
        names = " and ".join(str(path) for path in chosen[:2]) + (" and more" if len(chosen) > 2 else "")
        raise InputError(f"data set {dataset!r} has several files of descriptions: {names}", hint=_choose(chosen[0]))
    return chosen[0] if chosen else None


def _choose(path: Path) -> str:
    return f"choose one: --descriptions {path}"

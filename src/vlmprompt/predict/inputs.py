"""From what is named on a command line to pictures, one after the other: files, folders, patterns, a list on stdin.

No picture is opened here, and no list of all of them is held: a folder is read when its turn comes, in the order of
names. Nothing heavy is imported.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vlmprompt.data.files import READABLE, check_utf8, entries, ignored, is_image
from vlmprompt.errors import InputError, UsageError, VlmPromptError
from vlmprompt.regular import named_path

STDIN = "-"
# Told of a picture or folder that cannot be read: its path, and why.
Complain = Callable[[str, VlmPromptError], None]


@dataclass(frozen=True)
class Inputs:
    """Pictures that somebody has named.

    Attributes:
        named: files, each a picture whatever it is called, and folders, of which all images below are meant.
        listed: lines with more such paths, read once; None: there are none.
        left_out: a folder that is filled meanwhile: it is not entered when it is met below another, and patterns and
            lines mean nothing within it.
    """

    named: tuple[Path, ...]
    listed: Iterable[str] | None = None
    left_out: Path | None = None

    @classmethod
    def of(cls, words: Sequence[str], *, stdin: Iterable[str] = (), left_out: Path | None = None) -> Inputs:
        """What some words name.

        Args:
            words: paths, patterns such as "photos/*.jpg" or "photos/**/*.png", and "-" for `stdin`.
            stdin: a path a line.

        Raises:
            UsageError: no word, "-" twice, or the folder to be left out is itself named.
            InputError: there is nothing of this name, or nothing that a pattern fits.
        """
        if not words:
            raise UsageError("no picture is named", hint="name files, folders or patterns, or - for a list on stdin")
        if list(words).count(STDIN) > 1:
            raise UsageError("- stands for standard input, which is read once", hint="leave one of them out")
        named = tuple(path for word in words if word != STDIN for path in _paths(word, left_out))
        for path in named:
            if left_out is not None and _same(path, left_out):
                raise UsageError(
                    f"{path} is named as a folder of pictures, and as the folder to sort them into",
                    hint=f"such as --sort-into {path / 'sorted'}, which is left out when {path} is searched",
                )
        return cls(named, stdin if STDIN in words else None, left_out)

    def count(self) -> int | None:
        """How many pictures there are, with what will be complained of; None where a list is still to be read.

        Raises:
            InputError: a folder that was named has no images, or cannot be read.
        """
        total = sum(map(self._count, self.named))
        return total if self.listed is None else None

    def __iter__(self) -> Iterator[Path]:
        return self.pictures(_ignore)

    def pictures(self, complain: Complain) -> Iterator[Path]:
        """Every picture, in the order in which they were named, within a folder in that of names.

        Hidden files, sidecars of file managers and files that are no images by their names are left out of folders. A
        folder that links lead to twice is read once.

        Args:
            complain: told of folders and lines that cannot be read; the others go on.
        """
        for path in self.named:
            yield from self._below(path, complain)
        for line in self.listed or ():
            if (text := line.rstrip("\r\n")) and not _within(Path(text), self.left_out):
                yield from self._below(Path(text), complain)

    def _below(self, path: Path, complain: Complain) -> Iterator[Path]:
        waiting, met = [path], set()
        while waiting:
            place = waiting.pop()
            try:
                check_utf8([str(place)])
                if not place.is_dir():
                    yield place
                    continue
                state = place.stat()
                if (state.st_dev, state.st_ino) in met or (self.left_out is not None and _same(place, self.left_out)):
                    continue
                met.add((state.st_dev, state.st_ino))
                found = [one for one in entries(place) if is_image(one.name) or one.is_dir()]
            except InputError as error:
                complain(str(place), error)
            except (OSError, ValueError) as error:  # a name that is too long, or holds a zero byte
                complain(str(place), InputError(f"cannot read {place}: {getattr(error, 'strerror', None) or error}"))
            else:
                waiting += reversed(found)

    def _count(self, path: Path) -> int:
        unread: list[str] = []
        count = sum(1 for _ in self._below(path, lambda place, _: unread.append(place)))
        if not count and path.is_dir():
            entries(path)  # says so where it cannot be read
            raise InputError(f"folder {path} has no images", hint=f"name one that has; {READABLE}")
        return count + len(unread)


def _paths(word: str, left_out: Path | None) -> list[Path]:
    """The paths that a word stands for: itself where it is there, else what fits it as a pattern."""
    path = named_path(word)
    if os.path.exists(path):  # noqa: PTH110 (Path.exists fails on names that are too long)
        return [path]
    if not glob.has_magic(word):
        raise InputError(
            f"there is no {word}", hint="name a picture, a folder of pictures, or a pattern such as '*.jpg'"
        )
    fitting = _fitting(path)
    found = [one for one in fitting if not _within(one, left_out)]
    if not found:
        beside = f" outside of {left_out}" if fitting else ""
        raise InputError(f"nothing fits the pattern {word}{beside}", hint="name a picture or a folder of pictures")
    return found


def _fitting(pattern: Path) -> list[Path]:
    """What fits a pattern, sorted; what lies below a folder that fits is meant by that one, and left out.

    As in a shell, "**" enters no folder through a link (there could be no end). Hidden names and sidecars are not found
    unless the pattern names them.
    """
    parts = list(pattern.relative_to(pattern.anchor).parts)
    while parts and parts[-1] == "**":  # a folder stands for all below it
        parts.pop()
    start = Path(pattern.anchor)
    if not any(map(glob.has_magic, parts)):
        folder = start.joinpath(*parts)
        return [folder] if os.path.exists(folder) else []  # noqa: PTH110
    wanted = "/".join(part if part == "**" else re.sub(r"\*+", "*", part) for part in parts)
    may_hide = any(part.startswith(".") for part in parts if glob.has_magic(part))
    found = set()
    with suppress(OSError):  # a part of it is longer than any name
        for path in start.glob(wanted):
            if may_hide or not any(ignored(part) and part not in parts for part in path.parts):
                found.add(path)
    return [path for path in sorted(found, key=str) if found.isdisjoint(path.parents)]


def _within(path: Path, folder: Path | None) -> bool:
    """Whether a path is that of a folder, or lies in it; what it links to does not matter."""
    if folder is None:
        return False
    try:
        place = Path(os.path.realpath(path.parent), path.name)
    except (OSError, ValueError):  # a name that nothing has: reading tells
        return False
    return place.is_relative_to(os.path.realpath(folder))


def _same(path: Path, folder: Path) -> bool:
    try:
        return path.is_dir() and os.path.samefile(path, folder)  # noqa: PTH121 (either may be missing)
    except OSError:
        return False


def _ignore(path: str, error: VlmPromptError) -> None:
    """Counting complains of nothing: reading will."""

"""Finding data on disk: paths relative to a root, and the image files below a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from vlmprompt.data.formats import IMAGE_SUFFIXES
from vlmprompt.errors import InputError, UsageError
from vlmprompt.regular import kind, named_path

READABLE = f"read are {' '.join(IMAGE_SUFFIXES)}"
# An absolute path, or one with a part "..", as any system reads them.
_LEAVES = re.compile(r"[/\\]|[A-Za-z]:|(.*[/\\])?\.\.([/\\]|$)")
# Left behind by file managers, archives and programs; with hidden names, all that is dropped without a word.
_SIDECARS = frozenset(("thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "system volume information", "lost+found"))
_DUNDER = re.compile(r"__\w+__|__macosx", re.IGNORECASE)  # __pycache__


def locate(argument: str, root: Path | None) -> Path:
    """An existing path, taken relative to the working directory, then to `root`.

    Raises:
        UsageError: the argument is empty.
        InputError: there is nothing at either place, or the path is not UTF-8.
    """
    if not argument:
        raise UsageError("the data set names no path", hint="such as folder:photos or csv:list.csv")
    check_utf8([argument])
    path = named_path(argument)
    places = [path] if root is None else [path, root / path]
    for place in places:
        if os.path.exists(place):  # noqa: PTH110 (Path.exists fails on names that are too long)
            return place
    looked = " nor ".join(str(place) for place in dict.fromkeys(places))
    raise InputError(f"there is no {looked}", hint="check the path; --root is the parent folder of data sets")


def check_inside(path: str, file: Path, where: str) -> None:
    """Refuse a listed path that leaves the image folder, whatever it leads to.

    Args:
        file: the list.
        where: the place in it, such as "line 3".

    Raises:
        InputError: the path is absolute, or has a part "..".
    """
    if _LEAVES.match(path):
        message = f"{file}, {where}: path {path!r} leaves the image folder"
        raise InputError(message, hint="paths are relative, without '..'")


def is_image(name: str) -> bool:
    """Whether a file's name ends in that of a readable format; the file is not opened."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def entries(folder: Path) -> list[Path]:
    """What is in a folder, sorted by name, without hidden files and known sidecars.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        return sorted((p for p in folder.iterdir() if not ignored(p.name)), key=lambda p: p.name)
    except OSError as error:
        raise InputError(f"cannot read folder {folder}: {error.strerror}") from error


def files_below(folder: Path) -> Iterator[str]:
    """All files below a folder at any depth, through links too, without hidden ones and sidecars.

    Yields:
        Paths relative to the folder, with forward slashes on every system.

    Raises:
        InputError: a folder cannot be read, or is met twice (links can make a circle, of which there is no end); or
            there is something that is neither file nor folder, such as a link that leads nowhere.
    """
    met: dict[tuple[int, int], str] = {}
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            _meet(folder, prefix, met)
            with os.scandir(folder / prefix) as found:
                for entry in found:
                    if ignored(entry.name):
                        continue
                    if _is_file(entry):
                        yield prefix + entry.name
                    else:
                        waiting.append(f"{prefix}{entry.name}/")
        except OSError as error:
            raise InputError(f"cannot read folder {folder / prefix}: {error.strerror}") from error


def images_below(folder: Path, *, what: str = "class folder") -> list[str]:
    """The images of a class folder, at any depth: their relative paths, sorted.

    Args:
        what: names the folder in errors.

    Raises:
        InputError: there are none; a file is no image by its name (it would be lost silently), or has a
            name that cannot be written down as an id; or see `files_below`.
    """
    files = sorted(files_below(folder))
    check_utf8([str(folder), *files])
    others = [name for name in files if not is_image(name)]
    if others:
        more = f" (nor are {len(others) - 1} more files)" if len(others) > 1 else ""
        raise InputError(
            f"{folder / others[0]} is not an image{more}",
            hint=f"move it out of the {what}, or convert it; {READABLE}",
        )
    if not files:
        raise InputError(f"{what} {folder} has no images", hint="add images, or remove the folder from the data set")
    return files


def ignored(name: str) -> bool:
    """Whether a file or folder of this name is passed over without a word: hidden, or a known sidecar."""
    return name.startswith(".") or name.lower() in _SIDECARS or _DUNDER.fullmatch(name) is not None


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a file; raises where it is no folder either."""
    try:
        if entry.is_file():
            return True
        if entry.is_dir():
            return False
    except OSError:  # a link to itself
        pass
    raise not_a_file(Path(entry.path))


def _meet(folder: Path, prefix: str, met: dict[tuple[int, int], str]) -> None:
    """Note that a folder is being read, by what it is and not by what it is called."""
    state = os.stat(folder / prefix)  # noqa: PTH116 (a third of the time of Path.stat)
    first = met.setdefault((state.st_dev, state.st_ino), prefix)
    if first != prefix:
        raise InputError(
            f"folder {folder / prefix} is {folder / first} once more, through a link",
            hint="remove the link: each image is read once",
        )


def not_a_file(path: Path) -> InputError:
    """The error for what is neither file nor folder."""
    try:
        what = f"{path} is {kind(path.stat().st_mode)}, not a file"
    except OSError:
        what = f"{path} is a link that leads nowhere"
    return InputError(what, hint="remove it, or put a file in its place")


def check_utf8(paths: Iterable[str]) -> None:
    """Refuse names that cannot be written down, as in digests and run.json.

    Raises:
        InputError: names the first of them.
    """
    try:
        "/".join(paths).encode()
    except UnicodeEncodeError as error:
        raise not_utf8(error) from error


def not_utf8(error: UnicodeEncodeError) -> InputError:
    """The error for a name that cannot be written down."""
    around = error.object[max(0, error.start - 40) : error.end + 20]
    return InputError(f"a file name is not UTF-8, at ...{around!a}...", hint="rename the file")

"""Finding data on disk: paths relative to a root, and the image files below a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from vlmprompt.errors import InputError, UsageError

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
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
        InputError: there is nothing at either place.
    """
    if not argument:
        raise UsageError("the data set names no path", hint="such as folder:photos or csv:list.csv")
    path = Path(argument).expanduser()
    places = [path] if root is None else [path, root / path]
    for place in places:
        if place.exists():
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
        return sorted((p for p in folder.iterdir() if not _ignored(p.name)), key=lambda p: p.name)
    except OSError as error:
        raise InputError(f"cannot read folder {folder}: {error.strerror}") from error


def files_below(folder: Path) -> Iterator[str]:
    """All files below a folder at any depth, through links too, without hidden ones and sidecars.

    Yields:
        Paths relative to the folder, with forward slashes on every system.

    Raises:
        InputError: a folder cannot be read.
    """
    for directory, folders, names in os.walk(folder, followlinks=True, onerror=_unreadable):
        folders[:] = [name for name in folders if not _ignored(name)]
        inner = Path(directory).relative_to(folder).as_posix()
        prefix = "" if inner == "." else f"{inner}/"
        yield from (prefix + name for name in names if not _ignored(name))


def images_below(folder: Path, *, what: str = "class folder") -> list[str]:
    """The images of a class folder, at any depth: their relative paths, sorted.

    Args:
        what: names the folder in errors.

    Raises:
        InputError: there are none; a file is no image by its name (it would be lost silently), or has a
            name that cannot be written down as an id.
    """
    files = sorted(files_below(folder))
    _check_utf8("/".join((str(folder), *files)))
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


def _ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SIDECARS or _DUNDER.fullmatch(name) is not None


def _unreadable(error: OSError) -> None:
    raise InputError(f"cannot read folder {error.filename}: {error.strerror}") from error


def _check_utf8(paths: str) -> None:
    try:
        paths.encode()
    except UnicodeEncodeError as error:
        around = paths[max(0, error.start - 40) : error.end + 20]
        raise InputError(f"a file name is not UTF-8, at ...{around!a}...", hint="rename the file") from error

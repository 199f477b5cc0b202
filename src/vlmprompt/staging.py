"""Several files that appear together: written into a folder beside their place, and moved once all are whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vlmprompt.atomic import ABANDONED_S, parts, unwritable


@contextmanager
def staging(place: Path) -> Iterator[Path]:
    """An empty folder beside a place, on its disk; it is gone afterwards, whatever happens.

    Raises:
        InputError: nothing can be written there; what was there before is as it was.
    """
    folder = place.parent / f".{os.urandom(8).hex()}.vlmprompt-part"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
        _tidy(folder)
        yield folder
    except OSError as error:
        raise unwritable(place, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move_files(folder: Path, files: Sequence[Path], *, gone_first: Path | None = None) -> None:
    """Move files of the same names out of a folder, in their order.

    Args:
        gone_first: a file to remove before, which would be wrong beside some new and some old ones; a process killed
            in between leaves none.
    """
    for file in files:
        _sync(folder / file.name)
    if gone_first is not None:
        gone_first.unlink(missing_ok=True)
    for file in files:
        os.replace(folder / file.name, file)  # noqa: PTH105 (as in atomic.py)


def move_folder(folder: Path, place: Path) -> None:
    """Give a filled folder its name, in place of an older one of that name.

    Two renames: a process killed between them leaves the older one beside, under a name that ends in vlmprompt-part.
    """
    for file in folder.rglob("*"):
        if file.is_file():
            _sync(file)
    older = place.parent / f"{folder.name.removesuffix('.vlmprompt-part')}-old.vlmprompt-part"
    if place.exists():
        place.rename(older)
    try:
        folder.rename(place)
    except OSError:
        if older.exists():
            older.rename(place)
        raise
    with suppress(OSError):
        shutil.rmtree(older, ignore_errors=True)


def _tidy(made: Path) -> None:
    """Remove what killed processes left beside a new folder, judged by the clock that stamped it."""
    now = made.stat().st_mtime
    for part in parts(made.parent):
        if part.is_dir() and now - part.stat().st_mtime > ABANDONED_S:
            shutil.rmtree(part, ignore_errors=True)


def _sync(file: Path) -> None:
    with file.open("rb+") as handle:
        os.fsync(handle.fileno())

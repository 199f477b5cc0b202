"""Files that are either whole or not there, and under a name that nobody else has until they are whole."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vlmprompt.errors import InputError
from vlmprompt.regular import regular

PROBE_BYTES = 1 << 16
# A file takes seconds to write: one that nobody has touched for so long belongs to a process that was killed.
ABANDONED_S = 3600
_HINT = (
    "free space or change the permissions there (--resume goes on with an unfinished run), "
    "or choose another folder with --out"
)
_PART = re.compile(r"\.[0-9a-f]{16}\.vlmprompt-part")


def write_atomic(path: Path, content: bytes, *, make_folder: bool = True, hint: str = _HINT) -> None:
    """Write a file so that a reader, or a crash at any point, finds the old content or the new.

    Args:
        path, make_folder, hint: see `replacing`.

    Raises:
        InputError: it cannot be written; the old content is intact.
    """
    with replacing(path, make_folder=make_folder, hint=hint) as part:
        part.write_bytes(content)


@contextmanager
def replacing(path: Path, *, make_folder: bool = True, hint: str = _HINT) -> Iterator[Path]:
    """A new file to be filled, which takes the place of `path` once the block has ended without an error.

    Args:
        path: where it is a link, the file that it points to is replaced and the link stays: who made it has
            said where the content is to lie.
        make_folder: make the folder where there is none; without, one that has vanished is an error.
        hint: what to do where it cannot be written.

    Raises:
        InputError: it cannot be written, or there is a pipe or a device, such as /dev/null; what is there is intact.
    """
    target = Path(os.path.realpath(path))
    part = None
    try:
        with suppress(FileNotFoundError):
            regular(target)  # a rename would put a file in the place of a device
        if make_folder:
            target.parent.mkdir(parents=True, exist_ok=True)
        part = _new_part(target.parent)
        yield part
        _sync(part)
        os.replace(part, target)  # noqa: PTH105 (the call that tests interrupt)
        _sync_folder(target.parent)
        tidy(target)
    except OSError as error:
        raise unwritable(path, error, hint) from error
    finally:
        if part is not None:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def parts(folder: Path) -> list[Path]:
    """Half-written files in a folder: of processes that are writing there, or were killed while they did."""
    return [file for file in folder.iterdir() if _PART.fullmatch(file.name)] if folder.is_dir() else []


def probe(folder: Path, hint: str = _HINT) -> None:
    """Find out now whether files can be written into a folder, which need not exist; nothing stays behind.

    Args:
        hint: what to do where they cannot.

    Raises:
        InputError: they cannot, and why.
    """
    made: list[Path] = []
    try:
        made = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        part = _new_part(folder)
        try:
            part.write_bytes(bytes(PROBE_BYTES))
            _sync(part)
        finally:
            part.unlink()
    except OSError as error:
        raise unwritable(folder, error, hint) from error
    finally:
        for place in made:
            with suppress(OSError):  # somebody else has begun to use it
                place.rmdir()


def unwritable(path: Path, error: OSError, hint: str = _HINT) -> InputError:
    """The error for a file that cannot be written."""
    return InputError(f"cannot write {path}: {error.strerror or error}", hint=hint)


def _new_part(folder: Path) -> Path:
    part = folder / f".{os.urandom(8).hex()}.vlmprompt-part"
    part.touch(exist_ok=False)
    return part


def _sync(file: Path) -> None:
    with file.open("rb+") as handle:
        os.fsync(handle.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a new name last; where folders cannot be opened or synced, the platform does as it does."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def tidy(written: Path) -> None:
    """Remove what killed processes left beside a file, judged by the clock that stamped the file itself."""
    with suppress(OSError):
        now = written.stat().st_mtime
        for part in parts(written.parent):
            with suppress(OSError):
                if now - part.stat().st_mtime > ABANDONED_S:
                    part.unlink()

"""Files that are either whole or not there."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from vlmprompt.errors import InputError

PROBE_BYTES = 1 << 16


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash at any point, finds the old content or the new.

    Raises:
        InputError: it cannot be written; the old content is intact.
    """
    temporary = path.with_name(f".{path.name}-{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise unwritable(path, error) from error


def probe(folder: Path) -> None:
    """Find out now whether files can be written into a folder, which need not exist; nothing stays behind.

    Raises:
        InputError: they cannot, and why.
    """
    new = not folder.exists()
    write_atomic(folder / "probe", bytes(PROBE_BYTES))
    (folder / "probe").unlink()
    if new:
        folder.rmdir()


def unwritable(path: Path, error: OSError) -> InputError:
    """The error for a file that cannot be written."""
    return InputError(
        f"cannot write {path}: {error.strerror or error}",
        hint="free space or change the permissions there (--resume goes on with an unfinished run), "
        "or choose another folder with --out",
    )

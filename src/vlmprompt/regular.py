"""Files of users, looked at before they are opened: to open a named pipe can take for ever, and a device has no end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def named_path(text: Path | str) -> Path:
    """The file that somebody has named, with ~ for a home; of nobody's, ~ stands for itself."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 (Path.expanduser fails where there is no such user)


def regular(path: Path) -> Path:
    """The path, if a regular file is there, itself or through links.

    Raises:
        OSError: there is none; `strerror` says what there is.
    """
    regular_size(path)
    return path


def regular_size(path: Path) -> int:
    """Size in bytes of the regular file that is there.

    Raises:
        OSError: see `regular`.
    """
    try:
        state = os.stat(path)  # noqa: PTH116 (Path.stat takes twice as long)
    except ValueError as error:
        raise OSError(errno.EINVAL, "its name holds a null character", str(path)) from error
    if stat.S_ISDIR(state.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(state.st_mode):
        raise OSError(errno.EINVAL, f"it is {kind(state.st_mode)}, not a file", str(path))
    return state.st_size


def read_at_once(path: Path | str, size: int) -> bytes:
    """All of a file, in one call where it is as large as it was: half of what `Path.read_bytes` takes."""
    file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        data = os.read(file, size + 1)
        while len(data) != size and (more := os.read(file, 2**20)):
            data += more
        return data
    finally:
        os.close(file)


def kind(mode: int) -> str:
    """What is there in place of a regular file, by the mode of its `os.stat`."""
    return _KINDS.get(stat.S_IFMT(mode), "something else")

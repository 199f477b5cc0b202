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


def regular(path: Path) -> Path:
    """The path, if a regular file is there, itself or through links.

    Raises:
        OSError: there is none; `strerror` says what there is.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (Path.stat takes twice as long)
    except ValueError as error:
        raise OSError(errno.EINVAL, "its name holds a null character", str(path)) from error
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is {kind(mode)}, not a file", str(path))
    return path


def kind(mode: int) -> str:
    """What is there in place of a regular file, by the mode of its `os.stat`."""
    return _KINDS.get(stat.S_IFMT(mode), "something else")

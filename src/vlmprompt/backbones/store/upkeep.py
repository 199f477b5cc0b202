"""What a store holds, and making it smaller."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from vlmprompt.backbones.store.in_use import in_use
from vlmprompt.backbones.store.place import SUFFIX, USED, Store, files_in
from vlmprompt.backbones.store.shard import UnfitError, opened
from vlmprompt.errors import InputError, UsageError

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?B)?\s*", re.IGNORECASE)
COLUMNS = ("tower", "reads", "view", "dtype")
OTHER = "no features of this version"


@dataclass(frozen=True)
class Held:
    """A file of a store.

    Attributes:
        used: when it was last read or written, in seconds since the epoch.
    """

    path: Path
    size: int
    used: float


def size_in_bytes(text: str) -> float:
    """Of "5GB", "500 MB" or a number of bytes; units are powers of 1000.

    Raises:
        UsageError: it is none of these.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r} is no size", hint="write such as 5GB or 500MB")
    return float(found[1]) * UNITS[(found[2] or "").upper()]


def held(store: Store) -> list[Held]:
    """The files of a store, those that were not used for longest first."""
    return sorted(_files(store), key=lambda file: (file.used, file.path))


def groups(store: Store) -> list[dict[str, Any]]:
    """What there is: by tower, what is read of it, view and type."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for file in held(store):
        about = _about(file.path)
        key = tuple(str(about.get(column, "")) for column in COLUMNS)
        row = found.setdefault(key, dict(zip(COLUMNS, key, strict=True)) | {"images": 0, "files": 0, "bytes": 0})
        row["images"] += about.get("images", 0)
        row["files"] += 1
        row["bytes"] += file.size
        row["used"] = datetime.fromtimestamp(file.used).astimezone().isoformat(sep=" ", timespec="minutes")
    return sorted(found.values(), key=lambda row: [row[column] for column in COLUMNS])


def prune(store: Store, most: float) -> dict[str, Any]:
    """Delete the files that were not used for longest until no more than so many bytes are left; never one in use.

    Files that were moved aside as damaged go in any case.

    Returns:
        deleted: how many files; freed, left: bytes; in_use: files that would have gone.

    Raises:
        InputError: one cannot be deleted.
    """
    counts = {"deleted": 0, "freed": 0, "left": 0, "in_use": 0}
    if not store.folder.is_dir():
        return counts
    with store.changing():
        used, files = in_use(store.folder), held(store)
        counts["left"] = sum(file.size for file in files)
        for file in files:
            damaged = not file.path.name.endswith(SUFFIX)
            if not damaged and counts["left"] <= most:
                continue
            if file.path.name in used:
                counts["in_use"] += 1
                continue
            _delete(file.path)
            counts["deleted"] += 1
            counts["freed"] += file.size
            counts["left"] -= file.size
    return counts


def _files(store: Store) -> Iterator[Held]:
    for entry in files_in(store.folder):
        with suppress(OSError):  # it has gone meanwhile
            seen, path = entry.stat(follow_symlinks=False), Path(entry.path)
            yield Held(path, seen.st_size, max(seen.st_mtime, _stamp(path)))


def _about(path: Path) -> dict[str, Any]:
    try:
        about = opened(path)[0].get("about")
    except UnfitError:
        about = None
    return about if isinstance(about, dict) else {"tower": OTHER}


def _stamp(path: Path) -> float:
    """When it was last read; 0 if it was not."""
    try:
        return (path.parent / USED / path.name).stat().st_mtime
    except OSError:
        return 0.0


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
        (path.parent / USED / path.name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot delete {path}: {error.strerror}") from error

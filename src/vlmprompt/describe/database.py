"""The file of the cache: the only module that knows diskcache, and what a strange or damaged file may do to it.

diskcache keeps rows in SQLite, safe under threads, processes and kill -9. On its own it pickles what it does not
know, and un-pickles whatever a row says is a pickle (CVE-2025-69872): whoever can write the file could run code.
Here a `Disk` stores nothing but text inside the database, and refuses every other row where it is read. Settings in
the file, which diskcache would make attributes of itself, are none of the file's business either.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from diskcache import Cache, Disk, Timeout
from diskcache.core import DBNAME, DEFAULT_SETTINGS, METADATA, MODE_RAW, UNKNOWN

from vlmprompt.errors import InputError
from vlmprompt.regular import regular

LOCK_WAIT_S = 10.0  # others hold the lock for milliseconds
# All that diskcache knows, so that none is taken from the file. Nothing is ever evicted: an answer was paid for.
_SETTINGS = DEFAULT_SETTINGS | {"eviction_policy": "none", "cull_limit": 0, "size_limit": 2**62, "sqlite_mmap_size": 0}
PAID_AGAIN = "its answers are asked for, and paid, again"


class RefusedRowError(Exception):
    """A row that this cache cannot have written."""


class TextDisk(Disk):  # type: ignore[misc]
    """Stores text under text; refuses everything else, on the way in and on the way out."""

    def put(self, key: Any) -> tuple[Any, bool]:
        """A key as the database holds it."""
        if type(key) is not str:
            raise TypeError(f"keys of this cache are text, not {type(key).__name__}")
        return key, True

    def get(self, key: Any, raw: bool) -> Any:
        """A key from the database."""
        if not raw or type(key) is not str:
            raise RefusedRowError("a key is no text")
        return key

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> tuple[int, int, None, str]:
        """A value as the database holds it: never in a file, never pickled."""
        if type(value) is not str or read:
            raise TypeError(f"values of this cache are text, not {type(value).__name__}")
        return 0, MODE_RAW, None, value

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> str:
        """A value from the database."""
        if mode != MODE_RAW or filename is not None or type(value) is not str:
            raise RefusedRowError("a value is no text")
        return value

    def remove(self, file_path: str) -> None:
        """Nothing: no row of ours has a file, so one that names a file must not get it deleted."""


def open_database(folder: Path) -> Cache:
    """The cache in a folder, made if there is none; folders are made for the user alone (0700).

    Raises:
        InputError: it cannot be made or used. An empty file is an error, too: its answers were paid for.
    """
    try:
        for part in (folder.parent, folder):
            if not part.is_dir():
                part.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (folder / DBNAME).exists():
            _create(folder)
    except OSError as error:
        hint = "name a folder that can be written with VLMPROMPT_CACHE_DIR"
        raise InputError(f"cannot use the cache {folder}: {error.strerror or error}", hint=hint) from error
    if _is_empty(folder):
        raise InputError(
            f"the cache {folder / DBNAME} is empty (0 bytes): the answers that were in it are lost",
            hint=f"put a copy back, or remove the file: then {PAID_AGAIN}",
        )
    if (folder / DBNAME).exists():
        _check(folder)
    return _opened(folder)


def _is_empty(folder: Path) -> bool:
    """Whether the database is there, but nothing is in the file."""
    try:
        return (folder / DBNAME).exists() and regular(folder / DBNAME).stat().st_size == 0
    except OSError as error:
        raise _unusable(folder, f"{DBNAME}: {error.strerror}") from error


@contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """What SQLite and diskcache raise, as errors for people.

    Raises:
        InputError: the cache is locked, or damaged.
    """
    try:
        yield
    except (sqlite3.Error, Timeout) as error:
        if isinstance(error, Timeout) or "locked" in str(error):
            raise InputError(
                f"the cache {folder} has been locked by another process for more than {LOCK_WAIT_S:g} s",
                hint="wait until that has ended; in another folder (VLMPROMPT_CACHE_DIR) the answers are asked for, "
                "and paid, again",
            ) from error
        raise _unusable(folder, str(error)) from error


@contextmanager
def connected(folder: Path) -> Iterator[sqlite3.Connection]:
    """A connection past diskcache, whose own ways of listing rows stop at the first one that is refused."""
    with closing(sqlite3.connect(folder / DBNAME, timeout=LOCK_WAIT_S)) as connection:
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        yield connection


def _create(folder: Path) -> None:
    """A new file, which appears whole: so an empty one is always a damaged one, and not one that is being made."""
    with TemporaryDirectory(dir=folder, prefix="new-") as new:
        _opened(Path(new)).close()
        # Another process may be first, with answers in its file already; or links are unknown here: then the file is
        # made in place when it is opened.
        with suppress(OSError):
            (folder / DBNAME).hardlink_to(Path(new) / DBNAME)


def _opened(folder: Path) -> Cache:
    with guarded(folder):
        return Cache(str(folder), timeout=LOCK_WAIT_S, disk=TextDisk, **_SETTINGS)


def _check(folder: Path) -> None:
    """Refuse what diskcache would wait for without end, take over, or make anew and so have paid for again."""
    with guarded(folder), connected(folder) as connection:
        connection.execute("BEGIN IMMEDIATE")
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        settings = connection.execute("SELECT key FROM Settings").fetchall() if "Settings" in tables else []
        connection.execute("ROLLBACK")
    if missing := sorted({"Cache", "Settings"} - tables):
        raise _unusable(folder, f"it has no table {missing[0]}")
    if strange := sorted({str(key) for (key,) in settings} - _SETTINGS.keys() - METADATA.keys()):
        raise _unusable(folder, f"it has a setting {strange[0]!r}, which is none")


def _unusable(folder: Path, why: str) -> InputError:
    hint = f"put a copy back, or move the folder away: then {PAID_AGAIN}"
    return InputError(f"{folder} holds no usable cache: {why}", hint=hint)

"""The answers that were paid for, on disk: text and nothing else.

diskcache keeps them in SQLite, safe under threads, processes and kill -9. On its own it pickles what it does not
know, and un-pickles whatever a row says is a pickle (CVE-2025-69872): whoever can write the file could run code.
Here a `Disk` stores nothing but text inside the database, and refuses every other row where it is read.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from diskcache import Cache, Disk
from diskcache.core import MODE_RAW, UNKNOWN

from vlmprompt.claims.owner import Owner
from vlmprompt.errors import InputError

FOLDER = "descriptions"
REPLY, CLAIM = "reply:", "claim:"
# Rows that are not a text under a text, all within the database.
_FOREIGN = "NOT (raw = 1 AND mode = 1 AND filename IS NULL AND typeof(key) = 'text' AND typeof(value) = 'text')"


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


class DescriptionCache:
    """Answers by key, and claims on those that are being asked for.

    Attributes:
        refused: keys of rows that were met and refused.

    Args:
        folder: of the database; created for the user alone (0700).

    Raises:
        InputError: it cannot be created, or is no cache.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.refused: set[str] = set()
        self._owner = Owner.here().dump()
        try:
            for part in (folder.parent, folder):
                if not part.is_dir():
                    part.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Nothing is ever evicted: an answer was paid for.
            self._cache = Cache(
                str(folder), disk=TextDisk, eviction_policy="none", cull_limit=0, size_limit=2**62, sqlite_mmap_size=0
            )
        except OSError as error:
            hint = "name a folder that can be written with VLMPROMPT_CACHE_DIR"
            raise InputError(f"cannot use the cache {folder}: {error.strerror or error}", hint=hint) from error
        except (sqlite3.DatabaseError, TypeError, ValueError) as error:
            raise InputError(f"{folder} holds no usable cache: {error}", hint="move the folder away") from error

    def close(self) -> None:
        """Close the database."""
        self._cache.close()

    def get(self, key: str) -> str | None:
        """The answer stored under a key; a row that is none of ours counts as nothing."""
        try:
            value: str | None = self._cache.get(REPLY + key, retry=True)
        except RefusedRowError:
            self.refused.add(key)
            return None
        return value

    def put(self, key: str, text: str) -> None:
        """Store an answer; it is on disk when this returns."""
        self._cache.set(REPLY + key, text, retry=True)

    # -- claims: who is asking for an answer --------------------------------------------------------
    def claim(self, key: str, *, seconds: float) -> bool:
        """Whether the caller may ask for an answer now: nobody else alive is at it, and it is not there.

        Args:
            seconds: until the claim expires by itself, unless it is renewed.
        """
        with self._cache.transact(retry=True):
            if self.get(key) is not None or self._is_held(key):
                return False
            self._cache.set(CLAIM + key, self._owner, expire=seconds)
            return True

    def renew(self, key: str, *, seconds: float) -> None:
        """Keep a claim of one's own for longer."""
        self._cache.touch(CLAIM + key, expire=seconds, retry=True)

    def release(self, key: str) -> None:
        """Give a claim up."""
        self._cache.delete(CLAIM + key, retry=True)

    def _is_held(self, key: str) -> bool:
        try:
            owner = self._cache.get(CLAIM + key)
        except RefusedRowError:
            return False
        if owner is None or owner == self._owner:
            return False
        process = Owner.parse(owner)
        return process is None or not process.is_gone()  # one that cannot be asked is held until it expires

    # -- upkeep -------------------------------------------------------------------------------------
    def items(self) -> Iterator[tuple[str, str]]:
        """Keys and answers, in the order of their keys."""
        query = f"SELECT substr(key, ?), value FROM Cache WHERE key >= ? AND key < ? AND NOT ({_FOREIGN}) ORDER BY key"
        with self._connection() as connection:
            yield from connection.execute(query, (len(REPLY) + 1, REPLY, REPLY + "\U0010ffff"))

    def foreign(self) -> int:
        """The number of rows that this cache cannot have written."""
        with self._connection() as connection:
            return int(connection.execute(f"SELECT count(*) FROM Cache WHERE {_FOREIGN}").fetchone()[0])

    def damage(self) -> list[str]:
        """What SQLite finds wrong with the file; nothing for a sound one."""
        with self._connection() as connection:
            found = [row[0] for row in connection.execute("PRAGMA integrity_check")]
        return [] if found == ["ok"] else found

    def discard(self, keys: list[str]) -> None:
        """Forget answers."""
        for key in keys:
            self._cache.delete(REPLY + key, retry=True)

    def discard_foreign(self) -> int:
        """Delete the rows that this cache cannot have written, and claims that have expired; gives their number."""
        with self._connection() as connection, connection:
            query = f"DELETE FROM Cache WHERE {_FOREIGN} OR expire_time < ?"
            return connection.execute(query, (time.time(),)).rowcount

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        # Past diskcache, whose own ways of listing rows stop at the first one that is refused.
        with closing(sqlite3.connect(self.folder / "cache.db", timeout=60)) as connection:
            yield connection


def cache_folder() -> Path:
    """Where answers are kept: below VLMPROMPT_CACHE_DIR, or the user's cache folder."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("VLMPROMPT_CACHE_DIR") or user_cache_dir("vlmprompt")) / FOLDER

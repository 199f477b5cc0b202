"""The answers that were paid for, on disk: text and nothing else. How, see `database`.

An answer was paid for. So what keeps them from being read is an error, and no reason to ask for them again.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from vlmprompt.claims.owner import Owner
from vlmprompt.config.places import user_cache
from vlmprompt.describe.database import RefusedRowError, connected, guarded, open_database

FOLDER = "descriptions"
REPLY, CLAIM = "reply:", "claim:"
# Rows that are not a text under a text, all within the database.
_FOREIGN = "NOT (raw = 1 AND mode = 1 AND filename IS NULL AND typeof(key) = 'text' AND typeof(value) = 'text')"


class DescriptionCache:
    """Answers by key, and claims on those that are being asked for.

    Attributes:
        refused: keys of rows that were met and refused.

    Args:
        folder: of the database; created for the user alone (0700).

    Raises:
        InputError: it cannot be created, is no cache, or is locked. So do all methods, where it has become so.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.refused: set[str] = set()
        self._owner = Owner.here().dump()
        self._cache = open_database(folder)

    def close(self) -> None:
        """Close the database."""
        self._cache.close()

    def get(self, key: str) -> str | None:
        """The answer stored under a key; a row that is none of ours counts as nothing."""
        try:
            with guarded(self.folder):
                return self._text(REPLY + key)
        except RefusedRowError:
            self.refused.add(key)
            return None

    def put(self, key: str, text: str) -> None:
        """Store an answer; it is on disk when this returns."""
        with guarded(self.folder):
            self._cache.set(REPLY + key, text)

    # -- claims: who is asking for an answer --------------------------------------------------------
    def claim(self, key: str, *, seconds: float) -> bool:
        """Whether the caller may ask for an answer now: nobody else alive is at it, and it is not there.

        Args:
            seconds: until the claim expires by itself, unless it is renewed.
        """
        with guarded(self.folder), self._cache.transact():
            if self.get(key) is not None or self._is_held(key):
                return False
            self._cache.set(CLAIM + key, self._owner, expire=seconds)
            return True

    def renew(self, key: str, *, seconds: float) -> None:
        """Keep a claim of one's own for longer."""
        with guarded(self.folder):
            self._cache.touch(CLAIM + key, expire=seconds)

    def release(self, key: str) -> None:
        """Give a claim up."""
        with guarded(self.folder):
            self._cache.delete(CLAIM + key)

    def _is_held(self, key: str) -> bool:
        try:
            owner = self._text(CLAIM + key)
        except RefusedRowError:
            return False
        if owner is None or owner == self._owner:
            return False
        process = Owner.parse(owner)
        return process is None or not process.is_gone()  # one that cannot be asked is held until it expires

    def _text(self, key: str) -> str | None:
        try:
            value: str | None = self._cache.get(key)
        except sqlite3.OperationalError as error:
            if "decode" in str(error):
                raise RefusedRowError("a text is no UTF-8") from error
            raise
        return value

    # -- upkeep -------------------------------------------------------------------------------------
    def items(self) -> Iterator[tuple[str, str]]:
        """Keys and answers, in the order of their keys."""
        query = f"SELECT substr(key, ?), value FROM Cache WHERE key >= ? AND key < ? AND NOT ({_FOREIGN}) ORDER BY key"
        with guarded(self.folder), connected(self.folder) as connection:
            yield from connection.execute(query, (len(REPLY) + 1, REPLY, REPLY + "\U0010ffff"))

    def foreign(self) -> int:
        """The number of rows that this cache cannot have written."""
        with guarded(self.folder), connected(self.folder) as connection:
            return int(connection.execute(f"SELECT count(*) FROM Cache WHERE {_FOREIGN}").fetchone()[0])

    def damage(self) -> list[str]:
        """What SQLite finds wrong with the file; nothing for a sound one."""
        try:
            with connected(self.folder) as connection:
                found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
        except sqlite3.DatabaseError as error:
            return [str(error)]
        return [] if found == ["ok"] else found

    def discard(self, keys: list[str]) -> None:
        """Forget answers."""
        with guarded(self.folder):
            for key in keys:
                self._cache.delete(REPLY + key)

    def discard_foreign(self) -> int:
        """Delete the rows that this cache cannot have written, and claims that have expired; gives their number."""
        with guarded(self.folder), connected(self.folder) as connection, connection:
            query = f"DELETE FROM Cache WHERE {_FOREIGN} OR expire_time < ?"
            return connection.execute(query, (time.time(),)).rowcount


def cache_folder() -> Path:
    """Where answers are kept: below VLMPROMPT_CACHE_DIR, or the user's cache folder.

    Raises:
        InputError: the variable names the home of nobody.
    """
    return user_cache(FOLDER)  # resolved here, as diskcache would do it by itself

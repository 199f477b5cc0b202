"""The folder of the store: where it is, how much it may hold, and how much it holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vlmprompt.claims.claim import turn
from vlmprompt.config.models import Runtime
from vlmprompt.config.places import user_cache
from vlmprompt.shown import size

FOLDER, PREFIX, SUFFIX = "features", "features-", ".safetensors"
USED = "used"  # empty files, touched when those of their names are read
OFF = "off"
# Whoever adds to the store or takes from it holds this for the moment: its size is then what it was found to be.
ROOM = "room"
GB = 10**9


@dataclass(frozen=True)
class Store:
    """The store that a command uses.

    Attributes:
        folder: need not exist.
        limit: bytes that it may hold.
        asked: somebody has named the folder, so that what is not kept is worth a warning.
    """

    folder: Path
    limit: float
    asked: bool = False

    @classmethod
    def of(cls, runtime: Runtime) -> Store | None:
        """That of a command; None where it uses none.

        Raises:
            InputError: the user's cache folder is that of nobody.
        """
        given = runtime.feature_cache
        if given == OFF:
            return None
        if given is None:
            return cls(user_cache(FOLDER), runtime.feature_limit * GB)
        return cls(Path(given), runtime.feature_limit * GB, asked=True)

    @property
    def room(self) -> float:
        """Bytes that may still be added; below 0 where it holds more than it may."""
        return self.limit - held_bytes(self.folder)

    @property
    def words(self) -> str:
        """How full it is."""
        return f"{self.folder} holds {size(held_bytes(self.folder))} of {self.limit / GB:g} GB (--feature-limit)"

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Be the one who adds or takes away.

        Raises:
            InputError: nothing can be written there.
        """
        with turn(self.folder, ROOM, f"the size of {self.folder}"):
            yield


def files_in(folder: Path) -> list[os.DirEntry[str]]:
    """The files of features in a folder; none where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if entry.name.startswith(PREFIX)]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def held_bytes(folder: Path) -> int:
    """Size of all features in a folder; those that were moved aside count, too."""
    return sum(size_of(entry) for entry in files_in(folder))


def size_of(entry: os.DirEntry[str]) -> int:
    """Bytes of a file; 0 of one that is gone."""
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:
        return 0

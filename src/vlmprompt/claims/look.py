"""Who holds what, looked at from outside: nothing is taken from anybody."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vlmprompt.claims.claim import claim
from vlmprompt.claims.owner import Owner
from vlmprompt.claims.place import FOLDER, holder, is_stale
from vlmprompt.errors import InputError

LOOK = "look"


@dataclass(frozen=True)
class Held:
    """What somebody holds.

    Attributes:
        owner: None where the claim does not say.
        stale: whoever held it is dead, as far as can be told.
    """

    owner: Owner | None
    stale: bool

    @property
    def who(self) -> str:
        """For people."""
        return "an unknown process" if self.owner is None else str(self.owner)


class Looks:
    """Looks at the claims of a folder.

    Args:
        folder: where claims are held.
        fresh: a file written just now on the same file system; None: nobody's heartbeat can be judged.
    """

    def __init__(self, folder: Path, fresh: Path | None) -> None:
        self._folder = folder
        self._fresh = fresh

    def at(self, names: Sequence[str]) -> Held | None:
        """Who holds the first of these that is held; None: nobody."""
        for name in names:
            with suppress(FileNotFoundError, NotADirectoryError):
                found = holder(self._folder / FOLDER / name)
                if found is not None:
                    stale = self._fresh is not None and is_stale(*found, self._fresh)
                    return Held(found[1], stale)
        return None


@contextmanager
def looking(folder: Path) -> Iterator[Looks]:
    """Look at who is at work in a folder; whether they live is told by the folder's own clock."""
    try:
        with claim(folder, LOOK, f"a look at {folder}") as mine:
            yield Looks(folder, mine.file if mine.file.exists() else None)
    except InputError:  # another look under way, or a folder that takes no claims
        yield Looks(folder, None)

"""A command undisturbed, and whether a disturbed one came to the same."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from faults.commands import Command
from faults.contents import contents, left_over, twice
from faults.process import Ended, Process, events


@dataclass
class Tally:
    """How often something was tried, and came to the same in the end."""

    name: str
    tried: int = 0
    survived: int = 0

    @property
    def lost(self) -> int:
        """What did not."""
        return self.tried - self.survived

    def count(self, wrong: list[str], times: int = 1) -> None:
        """Count disturbances of one piece of work; what went wrong is printed."""
        self.tried += times
        self.survived += 0 if wrong else times
        for line in wrong:
            print(f"LOST {self.name}: {line}", flush=True)


@dataclass(frozen=True)
class Whole:
    """The work undisturbed.

    Attributes:
        files: its folder, without times.
        events: that could be seen meanwhile.
        seconds: that it took.
        ended: its end.
    """

    files: dict[str, str]
    events: int
    seconds: float
    ended: Ended


class Trial:
    """A command, and folders to run it in.

    Args:
        place: for all of them.
    """

    def __init__(self, command: Command, place: Path) -> None:
        self.command, self.place = command, place
        place.mkdir(exist_ok=True)
        self._count = 0

    def folder(self, parent: Path | None = None) -> Path:
        """A new one, prepared."""
        self._count += 1
        folder = (parent or self.place) / f"{self._count}"
        folder.mkdir()
        self.command.prepare(folder)
        return folder

    def start(self, folder: Path, *more: str, again: bool = False) -> Process:
        """Run the command."""
        self._count += 1
        arguments = [*self.command.arguments(folder), *(self.command.again if again else ()), *more]
        return Process(arguments, self.place / f"notes{self._count}")

    @cached_property
    def whole(self) -> Whole:
        """Undisturbed."""
        folder, start = self.folder(), time.monotonic()
        before = events(folder)
        ended = self.start(folder).wait()
        assert ended.code == 0, ended.errors
        return Whole(contents(folder), events(folder) - before, time.monotonic() - start, ended)

    def wrong(self, folder: Path, ended: Ended) -> list[str]:
        """What differs from the work undisturbed, after the command has ended for good."""
        if ended.code != 0:
            return [f"exit code {ended.code}: {ended.errors[-300:]}"]
        files, whole = contents(folder), self.whole.files
        names = sorted(files.keys() | whole.keys())
        found = [f"{name} differs" for name in names if files.get(name) != whole.get(name)]
        found += [f"{count} rows twice" for count in [twice(folder)] if count]
        return found + [f"{count} files left over" for count in [left_over(folder)] if count]

"""Trackers as a plugin would bring them."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from vlmprompt.api import TrackedRun, Tracker
from vlmprompt.plugins import host
from vlmprompt.registry import Source


class Toy(Tracker):
    """Remembers everything that it is told, in the class."""

    told: ClassVar[list[tuple[str, Any]]] = []

    def start(self, run: TrackedRun) -> None:
        self.told.append(("start", (run, run.records())))

    def record(self, record: Mapping[str, Any]) -> None:
        self.told.append(("record", copy.deepcopy(record)))
        if isinstance(record.get("parts"), dict):
            record["parts"]["spoilt"] = 1.0  # nobody else sees this

    def flush(self) -> None:
        self.told.append(("flush", None))

    def end(self, ending: str, error: str | None) -> None:
        self.told.append(("end", (ending, error)))


class Failing(Toy):
    """Leaves at its third record."""

    def record(self, record: Mapping[str, Any]) -> None:
        super().record(record)
        if len([kind for kind, _ in self.told if kind == "record"]) == 3:
            sys.exit("no more")


class NoTracker:
    """Something else."""


@contextmanager
def tracker(name: str, cls: type) -> Iterator[None]:
    """A tracker that a plugin would bring."""
    source = Source(name, "toys", "1.0")
    host().trackers.register(name, target=f"tests.training.toy_trackers:{cls.__name__}", source=source)
    Toy.told.clear()
    try:
        yield
    finally:
        host().trackers.withdraw(source)


def told(kind: str) -> list[Any]:
    return [what for own, what in Toy.told if own == kind]

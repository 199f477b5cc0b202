"""Several processes at one evaluation: the first decides what is measured, keeps and shows it; the others help.

Each looks at its part of the images of a cell (`Context.read`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from vlmprompt.evaluation.units import Unit, measured
from vlmprompt.parallel.group import Group
from vlmprompt.progress import SilentProgress


def call(group: Group, unit: Unit) -> None:
    """Let the others measure a unit, too."""
    group.from_first(unit.key.encode())


@contextmanager
def leading(group: Group, units: Sequence[Unit]) -> Iterator[None]:
    """Around all that the first process lets the others measure.

    Raises:
        InputError: they have other units.
    """
    _require_same(group, units)
    yield
    group.from_first(b"")


def help_measure(group: Group, units: Sequence[Unit], backbone_digest: str) -> None:
    """Measure what the first process says until there is no more; that one keeps the rows.

    Raises:
        InputError: that one has other units.
    """
    _require_same(group, units)
    by_key = {unit.key: unit for unit in units}
    while key := group.from_first().decode():
        measured(by_key[key], backbone_digest, SilentProgress())


def _require_same(group: Group, units: Sequence[Unit]) -> None:
    keys = "\n".join(dict.fromkeys(unit.key for unit in units))
    group.require_same("cells to measure", keys, "give all the same options, data, runs and package versions")

"""Several processes at one evaluation: the first decides what is measured, keeps and shows it; the others help.

Each looks at its part of the images of a cell (`Context.read`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.contract import Suite
from vlmprompt.evaluation.units import Unit, measured, units_of
from vlmprompt.parallel.group import Group
from vlmprompt.progress import SilentProgress
from vlmprompt.results.rows import ResultRow


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


def help_measure(
    group: Group, contexts: Sequence[Context], suites: Sequence[Suite], backbone_digest: str
) -> list[ResultRow]:
    """Measure what the first process says until there is no more; gives nothing, as that one keeps the rows.

    Raises:
        InputError: that one has other units.
    """
    listings = [units_of(context, suite, backbone_digest) for context in contexts for suite in suites]
    units = {unit.key: unit for listing in listings for unit in listing}
    _require_same(group, list(units.values()))
    while key := group.from_first().decode():
        measured(units[key], backbone_digest, SilentProgress())
    return []


def _require_same(group: Group, units: Sequence[Unit]) -> None:
    keys = "\n".join(dict.fromkeys(unit.key for unit in units))
    group.require_same("cells to measure", keys, "give all the same options, data, runs and package versions")


@contextmanager
def references_folder(group: Group, folder: Path) -> Iterator[Path]:
    """Where this process keeps the references that it trains: of the others nothing stays."""
    if group.first:
        yield folder
        return
    with TemporaryDirectory(prefix="vlmprompt-", ignore_cleanup_errors=True) as own:
        yield Path(own)

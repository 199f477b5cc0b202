"""Units of work: one cell of a suite for one subject, and the rows that it gives, whatever happens in it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vlmprompt.claims.claim import BusyError
from vlmprompt.config.models import RunConfig
from vlmprompt.errors import CapabilityError, InputError, Interrupted
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.contract import Cell, MetricValue, MissingError, Suite
from vlmprompt.evaluation.failures import reason
from vlmprompt.evaluation.given import cells_of, measurement_of
from vlmprompt.evaluation.keys import key_of, listing_of, setup_of
from vlmprompt.evaluation.streams import stream_note
from vlmprompt.evaluation.subject import Subject
from vlmprompt.methods.blame import blaming
from vlmprompt.parallel.failure import PeerError
from vlmprompt.plugins import host
from vlmprompt.progress import Progress
from vlmprompt.registry import Entry
from vlmprompt.results.details import Details
from vlmprompt.results.means import mean_note
from vlmprompt.results.rows import ResultRow, Status
from vlmprompt.results.store import EVERYTHING

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unit:
    """A cell of a suite, for one subject; equal keys have equal numbers. See `ResultRow.listing`."""

    context: Context
    suite: Suite
    cell: Cell
    key: str
    listing: str

    @property
    def subject(self) -> Subject:
        """Who is measured: the context's, unless the cell is of another."""
        return self.cell.subject or self.context.subject

    def __str__(self) -> str:
        return f"{self.suite.name} {self.cell.name} of {self.subject.config.method} beside {self.subject.run}"


def units_of(context: Context, suite: Suite, backbone_digest: str) -> list[Unit]:
    """The units of all cells of a suite."""
    cells = _listed(suite, context)
    listing = listing_of([cell.name for cell in cells])

    def unit(cell: Cell) -> Unit:
        whose, dtype = cell.subject or context.subject, context.feature_dtype
        key = key_of(whose, suite, cell, context.data_digest, backbone_digest, dtype)
        return Unit(context, suite, cell, key, listing)

    return [unit(cell) for cell in cells]


@dataclass(frozen=True)
class Outcome:
    """What one unit gave.

    Attributes:
        details: what was said of each image; None where the suite says nothing of them, or there are no numbers.
    """

    rows: list[ResultRow]
    details: Details | None = None


def measured(unit: Unit, backbone_digest: str, progress: Progress) -> Outcome:
    """Rows of one unit, whatever happens in it; only an interruption gets through, and others at work."""
    suite, cell = unit.suite, unit.cell
    context = unit.context
    spec, dtype = context.dataset.spec, context.feature_dtype
    setup = setup_of(unit.subject, suite, spec, context.data_digest, backbone_digest, dtype)

    def without(status: Status, note: str) -> Outcome:
        return Outcome([_row(unit, setup, metric, status=status, note=note) for metric in cell.metrics])

    try:
        with blaming(_entry(suite)):
            given = cell.compute()
        found = measurement_of(_entry(suite), cell, given)
        values = _as_promised(suite, cell, found.values)
        return Outcome([_row(unit, setup, value.metric, value) for value in values], _placed(unit, found.details))
    except (KeyboardInterrupt, Interrupted, BusyError, PeerError):
        raise
    except CapabilityError as error:
        return without("not_applicable", error.message)
    except MissingError as error:
        return without("missing", error.message)
    except BaseException as error:  # a plugin that calls sys.exit ends its cell, and not the work of hours
        log.debug("cell %s of suite %s failed", cell.name, suite.name, exc_info=True)
        note = reason(error)
        progress.warn(f"{suite.name} {cell.name} of {unit.context.subject.config.method} failed: {note}")
        return without("failed", note)


def _placed(unit: Unit, details: Details | None) -> Details | None:
    """Details that say where they are of; such as do not fit together fail the cell."""
    if details is None:
        return None
    details.check()
    return replace(details, suite=unit.suite.name, cell=unit.cell.name, temperature=unit.subject.temperature)


def _listed(suite: Suite, context: Context) -> Sequence[Cell]:
    """The cells of a suite; if it cannot even list them, one that fails in its place."""
    try:
        with blaming(_entry(suite)):
            return cells_of(_entry(suite), suite.cells(context))
    except (KeyboardInterrupt, Interrupted, BusyError):
        raise
    except BaseException as error:
        problem = error

        def compute() -> Sequence[MetricValue]:
            raise problem

        return [Cell(EVERYTHING, (EVERYTHING,), compute)]


def _entry(suite: Suite) -> Entry:
    """How a suite is registered."""
    return host().suites.get(suite.name.partition(":")[0])


def _as_promised(suite: Suite, cell: Cell, values: Sequence[MetricValue]) -> Sequence[MetricValue]:
    """Refuse metrics other than those announced: a rerun could not tell whether they are all there."""
    given = tuple(value.metric for value in values)
    if sorted(given) != sorted(cell.metrics):
        raise InputError(
            f"{_entry(suite).told} announced {', '.join(cell.metrics)} for cell {cell.name}, but gave "
            f"{', '.join(given) or 'nothing'}",
            hint=_entry(suite).author,
        )
    return values


def _row(
    unit: Unit,
    setup: dict[str, str],
    metric: str,
    value: MetricValue | None = None,
    *,
    status: Status = "ok",
    note: str = "",
) -> ResultRow:
    subject, config = unit.subject, unit.subject.config
    said = () if value is None else (mean_note(value.of), _towers(config), subject.state, stream_note(config))
    notes = [note if value is None else value.note, *said]
    return ResultRow(
        run=subject.run,
        method=config.method,
        dataset=unit.context.dataset.name,
        backbone=config.backbone,
        shots=subject.shots,
        seed=subject.seed,
        suite=unit.suite.name,
        suite_version=unit.suite.version,
        cell=unit.cell.name,
        metric=metric,
        value=None if value is None else value.value,
        n=None if value is None else value.n,
        higher_is_better=True if value is None else value.higher_is_better,
        status=status,
        note="; ".join(part for part in notes if part),
        setup=setup,
        key=unit.key,
        enters=unit.cell.enters,
        of=() if value is None else value.of,
        listing=unit.listing,
    )


def _towers(config: RunConfig) -> str:
    """What a reader of any number must know of the towers."""
    return "" if config.random_weights is None else f"random tower weights (seed {config.random_weights})"

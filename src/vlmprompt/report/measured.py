"""What was said of each image, as sections draw it: run by run, cell by cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlmprompt.results.classes import PREFERRED
from vlmprompt.results.rows import BACKBONE_DIGEST, DATA, DATA_DIGEST

if TYPE_CHECKING:
    from vlmprompt.report.run import ReportRun
    from vlmprompt.results.details import Details
    from vlmprompt.results.rows import ResultRow

PLAIN_CELL = "test"
MOST_OUTCOMES = 12  # of which a section has figures of their own
_NOT_OF_THE_METHOD = frozenset({DATA, DATA_DIGEST, BACKBONE_DIGEST})


@dataclass(frozen=True)
class Outcome:
    """One cell of one run with what was said of each image.

    Attributes:
        row: one of the cell's, which says what was measured.
    """

    run: ReportRun
    row: ResultRow
    details: Details

    @property
    def title(self) -> str:
        """For headings: the run, the cell where it is not the test split, and the temperature if it has one."""
        cell = "" if self.row.cell == PLAIN_CELL else f", {self.row.suite} {self.row.cell}"
        at = "" if self.details.temperature is None else f", temperature {self.details.temperature:.4g}"
        return f"{self.run.title}{cell}{at}"

    @property
    def images(self) -> str:
        """How many there are, and of what."""
        return f"n = {len(self.details):,} images of {self.row.dataset}"

    @property
    def thing(self) -> tuple[object, ...]:
        """Of what this is a seed: equal for runs that differ in their seed alone."""
        setup = tuple(sorted((key, value) for key, value in self.row.setup.items() if key not in _NOT_OF_THE_METHOD))
        return self.row.method, self.row.backbone, self.row.shots, setup


def classified(runs: Iterable[ReportRun]) -> list[Outcome]:
    """Cells with a class for each image: of each run those of one suite, the first of `PREFERRED` that it has."""
    found: list[Outcome] = []
    for run in runs:
        own = list(_outcomes([run], lambda suite: suite in PREFERRED, "classification"))
        suite = min((PREFERRED.index(outcome.row.suite) for outcome in own), default=0)
        found += [outcome for outcome in own if outcome.row.suite == PREFERRED[suite]]
    return _once(found)


def all_classified(runs: Iterable[ReportRun]) -> list[Outcome]:
    """All cells with a class for each image."""
    return _once(_outcomes(runs, lambda suite: True, "classification"))


def scored(runs: Iterable[ReportRun]) -> list[Outcome]:
    """Cells with scores of images of known classes and of others."""
    return _once(_outcomes(runs, lambda suite: True, "scores"))


def trained_first(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those of runs; of references only where there is no other."""
    return [outcome for outcome in outcomes if not outcome.run.reference] or list(outcomes)


def shown(outcomes: Sequence[Outcome]) -> tuple[list[Outcome], str]:
    """The first of many, and what is said of the others."""
    left = len(outcomes) - MOST_OUTCOMES
    if left <= 0:
        return list(outcomes), ""
    said = f" Shown are the first {MOST_OUTCOMES} of {len(outcomes)}; name fewer runs to see the others."
    return list(outcomes[:MOST_OUTCOMES]), said


def _outcomes(runs: Iterable[ReportRun], wanted: Callable[[str], bool], kind: str) -> Iterator[Outcome]:
    for run in runs:
        cells = {row.key: row for row in reversed(run.rows) if row.key and row.status == "ok" and wanted(row.suite)}
        for key, row in reversed(cells.items()):
            details = run.details.get(key)
            if details is not None and details.kind == kind and len(details):
                yield Outcome(run, row, details)


def _once(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Each unit of work once, although several runs may quote it."""
    first: dict[tuple[str, str], Outcome] = {}
    for outcome in outcomes:
        first.setdefault((outcome.row.key, outcome.row.method), outcome)
    return list(first.values())

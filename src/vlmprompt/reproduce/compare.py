"""Measured numbers beside a paper's, with their differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from statistics import fmean, stdev

from vlmprompt.reproduce.recipe import Column, PublishedSpec, Recipe
from vlmprompt.results.cells import DDOF, behind
from vlmprompt.results.harmonic import h
from vlmprompt.results.means import with_means_of_what_is_shown
from vlmprompt.results.numbers import MISSING
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import EVERYTHING, current
from vlmprompt.results.tables import SummaryTable

HEADERS = ("method", "number", "seeds", "images", "measured", "published", "difference")
GAIN_HEADERS = ("gain of", "over", "number", "measured", "published", "difference")


@dataclass(frozen=True)
class Measured:
    """What was measured for a cell, in percent.

    Attributes:
        mean: over seeds; None where nothing was measured.
        spread: sample standard deviation over seeds; None for one seed and for what is worked out.
        seeds: their number.
        images: how many are behind it, or of how many numbers it is the mean; empty if nobody knows.
        lacking: why numbers are missing.
    """

    mean: float | None = None
    spread: float | None = None
    seeds: int = 0
    images: str = ""
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """A paper's figure.

    Attributes:
        value: as printed.
        text: with the decimals that it is printed with.
        mean: of the printed figures that it should be the mean of, where it is another; else None.
    """

    value: float
    text: str
    mean: float | None = None

    @property
    def reference(self) -> float:
        """What a measured number is compared with."""
        return self.value if self.mean is None else self.mean


def compare(recipe: Recipe, rows: Iterable[ResultRow], skipped: Sequence[str] = ()) -> list[SummaryTable]:
    """The tables of a recipe with published figures: one line a method and number, then the stated gains.

    Args:
        rows: of the recipe's runs, under the names that it gives them.
        skipped: names in result rows of the data sets that were not there.
    """
    work = _Comparison(recipe, rows, skipped)
    return [work.numbers(), *([work.gains()] if recipe.gain else [])]


def parts_of(column: Column, columns: Sequence[Column]) -> list[Column]:
    """The columns that a mean is taken over: those above it that match and are no means themselves."""
    above = columns[: columns.index(column)]
    return [one for one in above if not one.mean_of and fnmatchcase(one.header, column.mean_of)]


def sources(column: Column, columns: Sequence[Column]) -> list[str]:
    """Headers of the columns that a mean or harmonic mean is worked out from."""
    return list(column.harmonic_of or [part.header for part in parts_of(column, columns)])


def derived(column: Column, columns: Sequence[Column], values: Mapping[str, float | None]) -> float | None:
    """A mean or harmonic mean of other columns; None unless they all have a value.

    Args:
        values: header -> value, in percent.
    """
    headers = sources(column, columns)
    known = [value for value in map(values.get, headers) if value is not None]
    if len(known) < len(headers) or not known:
        return None
    return h(*known) if column.harmonic_of else fmean(known)


def published_figures(recipe: Recipe) -> dict[tuple[str, str], Published]:
    """(method, header) -> the paper's figure."""
    return {
        (method, header): _figure(recipe, spec, method, header, value)
        for spec in recipe.published
        for method, figures in spec.rows.items()
        for header, value in zip(spec.columns, figures, strict=True)
        if value != ""
    }


def recomputed(recipe: Recipe, spec: PublishedSpec, method: str, header: str) -> float | None:
    """A printed mean, from the printed figures of the same table that it is the mean of; None for other figures."""
    column = next(one for one in recipe.columns if one.header == header)
    values = {name: None if v == "" else float(v) for name, v in zip(spec.columns, spec.rows[method], strict=True)}
    return None if column.suite else derived(column, recipe.columns, values)


def _figure(recipe: Recipe, spec: PublishedSpec, method: str, header: str, value: float | str) -> Published:
    own = len(str(value).partition(".")[2])
    wrong = header in spec.misprints.get(method, ())
    mean = recomputed(recipe, spec, method, header) if wrong else None
    return Published(float(value), f"{float(value):.{max(own, spec.decimals)}f}", mean)


class _Comparison:
    """A recipe's cells, measured and published, and the footnotes of one table."""

    def __init__(self, recipe: Recipe, rows: Iterable[ResultRow], skipped: Sequence[str]) -> None:
        self._recipe = recipe
        once = {(r.key or id(r), r.method, r.cell, r.metric): r for r in current(rows)}
        self._rows = with_means_of_what_is_shown(once.values())
        self._skipped = frozenset(skipped)
        self._published = published_figures(recipe)
        self._notes: list[str] = []

    def numbers(self) -> SummaryTable:
        """One line a method and column, of those with anything to show."""
        self._notes = []
        methods = dict.fromkeys([*self._recipe.names, *(row.method for row in self._rows)])
        lines = [
            self._line(method, column)
            for method in methods
            for column in self._recipe.columns
            if (method, column.header) in self._published or self.measured[method, column.header] != Measured()
        ]
        title = f"{self._recipe.title} (%)"
        return SummaryTable(title, HEADERS, 2, tuple(lines), self._caption(), tuple(self._notes))

    def gains(self) -> SummaryTable:
        """The differences between methods that the paper states."""
        lines = []
        for gain in self._recipe.gain:
            of, over = (self.measured[name, gain.column].mean for name in (gain.of, gain.over))
            measured = None if of is None or over is None else of - over
            beside = None if measured is None else measured - gain.value
            numbers = (_signed(measured), f"{gain.value:+g}", _signed(beside))
            lines.append((gain.of, gain.over, gain.column, *numbers))
        sources = ", ".join(dict.fromkeys(gain.table for gain in self._recipe.gain))
        caption = f"points; published: {self._recipe.paper}, {sources}"
        return SummaryTable("Stated gains", GAIN_HEADERS, 3, tuple(lines), caption)

    @cached_property
    def measured(self) -> dict[tuple[str, str], Measured]:
        """(method, header) -> what was measured."""
        found: dict[tuple[str, str], Measured] = {}
        for method in {*self._recipe.names, *(row.method for row in self._rows)}:
            for column in self._recipe.columns:
                found[method, column.header] = self._measure(method, column, found)
        return found

    def _measure(self, method: str, column: Column, found: Mapping[tuple[str, str], Measured]) -> Measured:
        if column.suite:
            return _over_seeds([row for row in self._rows if row.method == method and _belongs(row, column)])
        mine = {header: cell for (name, header), cell in found.items() if name == method}
        value = derived(column, self._recipe.columns, {header: cell.mean for header, cell in mine.items()})
        if value is None:
            return Measured()
        parts = sources(column, self._recipe.columns)
        images = f"mean of {len(parts)}" if column.mean_of else ""
        return Measured(value, seeds=min(mine[header].seeds for header in parts), images=images)

    def _line(self, method: str, column: Column) -> tuple[str, ...]:
        header = column.header
        cell, printed = self.measured[method, header], self._published.get((method, header))
        difference = None if cell.mean is None or printed is None else cell.mean - printed.reference
        seeds = str(cell.seeds) if cell.seeds else MISSING
        images = cell.images or MISSING
        return method, header, seeds, images, self._shown(cell, column), self._printed(printed), _signed(difference)

    def _shown(self, cell: Measured, column: Column) -> str:
        if cell.mean is None and not cell.lacking:
            absent = bool(self._skipped) and (column.data is None or column.data in self._skipped)
            return "skipped" if absent else MISSING
        text = "failed" if cell.mean is None else f"{cell.mean:.2f}"
        text += "" if cell.spread is None else f" ± {cell.spread:.2f}"
        return " ".join([text, *(self._note(reason) for reason in cell.lacking)])

    def _printed(self, printed: Published | None) -> str:
        if printed is None:
            return MISSING
        if printed.mean is None:
            return printed.text
        reason = f"printed {printed.text}, but the printed figures it averages give {printed.mean:.2f}"
        return f"{printed.text} {self._note(f'{reason}; the difference is to that')}"

    def _note(self, text: str) -> str:
        if text not in self._notes:
            self._notes.append(text)
        return f"[{self._notes.index(text) + 1}]"

    def _caption(self) -> str:
        tables = ", ".join(dict.fromkeys(spec.table for spec in self._recipe.published))
        parts = [f"published: {self._recipe.paper}, {tables}"] if tables else []
        seeds = sorted({row.seed for row in self._rows if row.seed is not None})
        parts.append(f"measured: seeds {', '.join(map(str, seeds)) or 'none yet'}")
        if any(cell.spread is not None for cell in self.measured.values()):
            parts.append(f"mean ± sample standard deviation (ddof={DDOF})")
        parts.append("difference: measured - published")
        if any("↓" in column.header for column in self._recipe.columns):
            parts.append("↓ lower is better")
        return "; ".join(parts)


def _signed(points: float | None) -> str:
    return MISSING if points is None else f"{round(points, 2) + 0.0:+.2f}"


def _belongs(row: ResultRow, column: Column) -> bool:
    """Whether a row is one of a column's numbers, or says why there is none."""
    same = row.suite == column.suite and column.data in (None, row.dataset)
    trained = row.seed is not None and row.shots != 0
    same &= column.shots is None or not trained or row.shots == column.shots
    whole = row.cell == EVERYTHING and row.status != "ok"
    return same and (whole or (row.cell, row.metric) == (column.cell, column.metric))


def _over_seeds(rows: Sequence[ResultRow]) -> Measured:
    values = [100 * row.value for row in rows if row.value is not None]
    lacking = [f"{row.status.replace('_', ' ')}: {row.note}" for row in rows if row.status != "ok"]
    reasons = tuple(dict.fromkeys(lacking))
    if not values:
        return Measured(lacking=reasons)
    images = behind([rows])
    return Measured(fmean(values), stdev(values) if len(values) > 1 else None, len(values), images, reasons)

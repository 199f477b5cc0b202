"""The texts in a table: means and spreads, what stands where there is no number, and how many images are behind it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from vlmprompt.results.harmonic import BASE, H_OF_MEANS, NEW, h
from vlmprompt.results.layout import Layout
from vlmprompt.results.numbers import MISSING, Column, Number, grouped
from vlmprompt.results.rows import ResultRow

ByColumn = Mapping[Column, Sequence[Number]]
DDOF = 1  # sample standard deviation; CoOp's scripts use numpy's default, 0
# What a number that cannot be shown stands as, by the row's status.
STATES = {"failed": "failed", "not_applicable": "n/a", "missing": "missing"}


@dataclass
class Notes:
    """Footnotes in the making."""

    texts: list[str] = field(default_factory=list)

    def marks(self, rows: Iterable[Number]) -> str:
        """References such as "[1][2]" to the notes of rows without a number."""
        numbers = dict.fromkeys(self._number(row) for row in rows)
        return "".join(f"[{number}]" for number in numbers)

    def mark(self, text: str) -> str:
        """The reference to a note of one's own."""
        return f"[{self._place(text)}]"

    def _number(self, row: Number) -> int:
        return self._place(f"{row.status.replace('_', ' ')}: {row.note or 'no reason given'}")

    def _place(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1


def by_column(numbers: Iterable[Number]) -> dict[Column, list[Number]]:
    """The numbers of each column."""
    return grouped(numbers, lambda number: number.column)


def values(numbers: Iterable[Number]) -> list[float]:
    """Of those that have one."""
    return [number.value for number in numbers if number.value is not None]


def cells(line: Sequence[Number], layout: Layout, notes: Notes) -> list[str]:
    """What stands in the columns of one line of a table."""
    columns = by_column(line)
    return [_cell(columns, column, layout, notes) for column in layout.headers]


def _cell(columns: ByColumn, column: Column, layout: Layout, notes: Notes) -> str:
    """Mean and spread of the numbers, and references to what is said of those that are missing."""
    mine = columns.get(column, ())
    known, lacking = values(mine), [number for number in mine if number.status != "ok"]
    marks = notes.marks(lacking)
    if not known:
        found = {number.status for number in lacking}
        states = [text for status, text in STATES.items() if status in found]
        return f"{states[0]} {marks}" if states else MISSING
    percent = layout.percent[column]
    text = _number(_mean(columns, column), percent)
    if len(known) > 1 and column[1] != H_OF_MEANS:
        text += f" ± {_number(_spread(known), percent)}"
    return f"{text} {marks}".rstrip()


def average_cell(datasets: Sequence[ByColumn], column: Column, layout: Layout, needed: int) -> str:
    """The mean over data sets of the means over seeds, if all of the data sets that are needed have one."""
    complete = [columns for columns in datasets if values(columns.get(column, ()))]
    if len(complete) < needed:
        return MISSING
    if column[1] == H_OF_MEANS:
        base, new = (sum(_mean(columns, (half, "top1")) for columns in complete) / needed for half in (BASE, NEW))
        return _number(h(base, new), layout.percent[column])
    return _number(sum(_mean(columns, column) for columns in complete) / needed, layout.percent[column])


def _mean(columns: ByColumn, column: Column) -> float:
    """The mean over runs; H of means is taken from the means of the runs that have both halves.

    A line may hold halves of several data sets or numbers of shots: H's are those of its own.
    """
    if column[1] != H_OF_MEANS:
        return fmean(values(columns[column]))
    own = set(map(_of_what, columns[column]))
    halves = (number for numbers in columns.values() for number in numbers if number.metric == "top1")
    top1 = [number for number in halves if _of_what(number) in own]
    base, new = (_of_runs(number for number in top1 if number.cell == half) for half in (BASE, NEW))
    both = base.keys() & new.keys()
    if not both:
        return math.nan
    return h(*(fmean(half[run] for run in both) for half in (base, new)))


def _of_what(number: Number) -> tuple[str, str, str]:
    return number.suite, number.dataset, number.shots


def _of_runs(numbers: Iterable[Number]) -> dict[str, float]:
    """The mean value of each run."""
    return {
        run: fmean(found) for run, own in grouped(numbers, lambda number: number.run).items() if (found := values(own))
    }


def _spread(known: Sequence[float]) -> float:
    """The sample standard deviation of several."""
    mean = fmean(known)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (len(known) - DDOF))


def _number(value: float, percent: bool) -> str:
    return f"{100 * value:.2f}" if percent else f"{value:.4g}"


def behind(datasets: Sequence[Sequence[Number | ResultRow]]) -> str:
    """Images behind numbers, a range where they differ; of a mean over sets, how many sets.

    Args:
        datasets: the numbers of each data set, whose images are added up.
    """
    sets = {len(number.of) for numbers in datasets for number in numbers if number.of}
    if sets:
        return f"mean of {_range(sets)}"
    counts = [{one.n for one in numbers if one.value is not None and one.n is not None} for numbers in datasets]
    known = [n for n in counts if n]
    return _range({sum(map(min, known)), sum(map(max, known))}) if known else MISSING


def _range(numbers: set[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"

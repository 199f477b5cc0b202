"""The texts in a table: means and spreads, what stands where there is no number, and how many images are behind it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from vlmprompt.results.frame import MISSING, Column
from vlmprompt.results.harmonic import BASE, H_OF_MEANS, NEW, h
from vlmprompt.results.layout import Layout

_FIELDS = ("column", "value", "status", "note", "n", "of")  # of a row, those that cells are made from
DDOF = 1  # sample standard deviation; CoOp's scripts use numpy's default, 0
# What a number that cannot be shown stands as, by the row's status.
STATES = {"failed": "failed", "not_applicable": "n/a", "missing": "missing"}


@dataclass
class Notes:
    """Footnotes in the making."""

    texts: list[str] = field(default_factory=list)

    def marks(self, rows: Iterable[Any]) -> str:
        """References such as "[1][2]" to the notes of rows without a number."""
        numbers = dict.fromkeys(self._number(row) for row in rows)
        return "".join(f"[{number}]" for number in numbers)

    def mark(self, text: str) -> str:
        """The reference to a note of one's own."""
        return f"[{self._place(text)}]"

    def _number(self, row: Any) -> int:
        return self._place(f"{row.status.replace('_', ' ')}: {row.note or 'no reason given'}")

    def _place(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1


def by_column(part: pd.DataFrame) -> dict[Column, list[Any]]:
    """The rows of each column, as named tuples: to ask pandas for each cell of a table by itself takes it long."""
    found: dict[Column, list[Any]] = {}
    row: Any  # pandas does not know what is in it
    for row in part[list(_FIELDS)].itertuples(index=False):
        found.setdefault(row.column, []).append(row)
    return found


def cells(part: pd.DataFrame, layout: Layout, notes: Notes) -> list[str]:
    """What stands in the columns of one line of a table.

    Args:
        part: the rows of that line.
    """
    rows = by_column(part)
    return [_cell(part, rows.get(column, []), column, layout, notes) for column in layout.headers]


def _cell(part: pd.DataFrame, mine: Sequence[Any], column: Column, layout: Layout, notes: Notes) -> str:
    """Mean and spread of the numbers, and references to what is said of those that are missing."""
    values = [row.value for row in mine if pd.notna(row.value)]
    lacking = [row for row in mine if row.status != "ok"]
    marks = notes.marks(lacking)
    if not values:
        found = {row.status for row in lacking}
        states = [text for status, text in STATES.items() if status in found]
        return f"{states[0]} {marks}" if states else MISSING
    percent = layout.percent[column]
    averaged = column[1] == H_OF_MEANS
    text = _number(_mean(part, column) if averaged else float(np.mean(values)), percent)
    if len(values) > 1 and not averaged:
        text += f" ± {_number(float(np.std(values, ddof=DDOF)), percent)}"
    return f"{text} {marks}".rstrip()


def average_cell(groups: Sequence[pd.DataFrame], column: Column, layout: Layout, needed: int) -> str:
    """The mean over data sets of the means over seeds, if all of the data sets that are needed have one."""
    complete = [g for g in groups if g["value"][g["column"] == column].notna().any()]
    if len(complete) < needed:
        return MISSING
    if column[1] == H_OF_MEANS:
        base, new = (sum(_mean(g, (half, "top1")) for g in complete) / needed for half in (BASE, NEW))
        return _number(h(base, new), layout.percent[column])
    return _number(sum(_mean(g, column) for g in complete) / needed, layout.percent[column])


def _mean(part: pd.DataFrame, column: Column) -> float:
    """The mean over runs; H of means is taken from the means of the runs that have both halves."""
    if column[1] != H_OF_MEANS:
        return float(part["value"][part["column"] == column].mean())
    halves = part[part["metric"] == "top1"].pivot_table(index="run", columns="cell", values="value")
    base, new = halves[[BASE, NEW]].dropna().mean()
    return h(float(base), float(new))


def _number(value: float, percent: bool) -> str:
    return f"{100 * value:.2f}" if percent else f"{value:.4g}"


def behind(datasets: Sequence[Sequence[Any]]) -> str:
    """Images behind numbers, a range where they differ; of a mean over sets, how many sets.

    Args:
        datasets: the rows of each data set, whose images are added up.
    """
    sets = {len(row.of) for rows in datasets for row in rows if row.of}
    if sets:
        return f"mean of {_range(sets)}"
    counts = [{int(row.n) for row in rows if pd.notna(row.value) and pd.notna(row.n)} for rows in datasets]
    known = [n for n in counts if n]
    return _range({sum(map(min, known)), sum(map(max, known))}) if known else MISSING


def _range(numbers: set[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"

"""One table over several suites: methods down, chosen numbers across, seeds averaged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from vlmprompt.results.harmonic import BASE, H_OF_MEANS, NEW
from vlmprompt.results.layout import Layout, differing, down, is_fraction, percent_signs
from vlmprompt.results.numbers import MISSING, SETUP, Number, grouped, numbers_of
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import EVERYTHING
from vlmprompt.results.tables import SummaryTable, table_of

SETTING = f"{SETUP}setting"


@dataclass(frozen=True)
class Pick:
    """A column of the table.

    Attributes:
        cell: of an OOD suite with the score, such as "mean/gl-mcm".
        data: name of the only data set that it shows, or None.
        shots: the only number of shots that it shows, or None.
    """

    header: str
    suite: str
    cell: str
    metric: str
    data: str | None = None
    shots: int | None = None


def overview(rows: Iterable[ResultRow], picks: Sequence[Pick], title: str) -> SummaryTable:
    """The table; what was not measured for a method is a dash, what it cannot serve is explained below.

    Where columns are for certain numbers of shots there is one row a method, else one for each number of shots.
    """
    numbers = numbers_of(rows)
    # H of means is taken from both halves, whether or not they are shown.
    harmonic = [pick for pick in picks if pick.metric == H_OF_MEANS]
    halves = [replace(pick, header="", cell=half, metric="top1") for pick in harmonic for half in (BASE, NEW)]
    places = [*enumerate(picks), *((len(picks), half) for half in dict.fromkeys(halves))]
    chosen = [number for place, pick in places for number in _picked(numbers, place, pick)]
    columns = [(f"{i}", pick.metric) for i, pick in enumerate(picks)]
    trained = {number.shots for number in chosen} - {MISSING}
    index = ["method"] if len(trained) < 2 or all(pick.shots for pick in picks) else ["method", "shots"]
    index += _apart([number for number in chosen if number.cell != EVERYTHING])
    found = grouped(chosen, lambda number: number.column)
    percent = {column: is_fraction(column, found.get(column, ())) for column in columns}
    signs = percent_signs(percent)
    headers = {c: f"{pick.header}{signs[c]}{down(found.get(c, ()))}" for c, pick in zip(columns, picks, strict=True)}
    return table_of(title, chosen, Layout(index, headers, percent))


def _apart(measured: Sequence[Number]) -> list[str]:
    """The settings that keep rows of a method apart; not which classes were trained on, where a suite says that."""
    found = differing(measured)
    by_suite = grouped(measured, lambda number: (number.suite, number.dataset, number.method, number.shots))
    told = all(len({number.field(SETTING) for number in numbers}) < 2 for numbers in by_suite.values())
    return [name for name in found if name != SETTING or not told]


def _picked(numbers: Iterable[Number], place: int, pick: Pick) -> list[Number]:
    """Those of one column, in its place."""
    cell, _, score = pick.cell.partition("/")
    wanted = pick.suite, cell, pick.metric, score
    shots = None if pick.shots is None else {str(pick.shots), MISSING}
    return [
        number.at((f"{place}", pick.metric))
        for number in numbers
        if (number.suite, number.cell, number.metric, number.score) == wanted
        and pick.data in (None, number.dataset)
        and (shots is None or number.shots in shots)
    ]

"""One table over several suites: methods down, chosen numbers across, seeds averaged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from vlmprompt.results.frame import SETUP, frame_of
from vlmprompt.results.harmonic import BASE, H_OF_MEANS, NEW
from vlmprompt.results.layout import Layout, differing, is_fraction
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
    frame = frame_of(rows)
    parts = [_picked(frame, i, pick) for i, pick in enumerate(picks)]
    # H of means is taken from both halves, whether or not they are shown.
    halves = [Pick("", pick.suite, half, "top1") for pick in picks if pick.metric == H_OF_MEANS for half in (BASE, NEW)]
    parts += [_picked(frame, len(picks), half) for half in dict.fromkeys(halves)]
    chosen = pd.concat(parts) if parts else frame.head(0)
    columns = [(f"{i}", pick.metric) for i, pick in enumerate(picks)]
    trained = set(chosen["shots"]) - {"–"}
    index = ["method"] if len(trained) < 2 or all(pick.shots for pick in picks) else ["method", "shots"]
    index += _apart(chosen[chosen["cell"] != EVERYTHING])
    lower = {c for c, up in zip(chosen["column"], chosen["higher_is_better"], strict=True) if not up}
    headers = {c: f"{pick.header}{' ↓' if c in lower else ''}" for c, pick in zip(columns, picks, strict=True)}
    percent = {c: is_fraction(c, chosen["value"][chosen["column"] == c]) for c in columns}
    return table_of(title, chosen, Layout(index, headers, percent))


def _apart(measured: pd.DataFrame) -> list[str]:
    """The settings that keep rows of a method apart; not which classes were trained on, where a suite says that."""
    found = differing(measured)
    by_suite = measured.groupby(["suite", "dataset", "method", "shots"])
    told = SETTING in found and (by_suite[SETTING].nunique() < 2).all()
    return [name for name in found if name != SETTING or not told]


def _picked(frame: pd.DataFrame, place: int, pick: Pick) -> pd.DataFrame:
    """The rows of one column, marked with its place."""
    cell, _, score = pick.cell.partition("/")
    wanted = (frame["suite"] == pick.suite) & (frame["cell"] == cell) & (frame["metric"] == pick.metric)
    wanted &= frame["score"] == score
    if pick.data is not None:
        wanted &= frame["dataset"] == pick.data
    if pick.shots is not None:
        wanted &= frame["shots"].isin([str(pick.shots), "–"])
    mine = frame[wanted].copy()
    # As objects: of no rows pandas would make numbers, which compare with a pair element by element.
    mine["column"] = pd.Series([(f"{place}", pick.metric)] * len(mine), index=mine.index, dtype=object)
    return mine

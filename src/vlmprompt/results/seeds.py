"""Numbers over seeds, for figures: the same grouping as in tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, stdev

import pandas as pd

from vlmprompt.results.frame import MISSING, SETUP, frame_of
from vlmprompt.results.layout import differing
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import EVERYTHING


@dataclass(frozen=True)
class Seeds:
    """One number of one method, of each of its runs.

    Attributes:
        shots: as tables show it: a number, "all", or a dash where nothing is learned.
        setting: in what it differs from others of its method and shots, such as "lr 0.1"; may be empty.
        cell: what stands before a slash.
        score: what stands behind it, of OOD cells.
        values: run and seed -> number; several runs are several seeds.
        images: behind each of them, where it is known.
        of: of a mean, the cells that it averages.
    """

    suite: str
    dataset: str
    backbone: str
    method: str
    shots: str
    setting: str
    cell: str
    score: str
    metric: str
    values: dict[tuple[str, int | None], float]
    images: tuple[int, ...]
    of: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Method and setting."""
        return f"{self.method}, {self.setting}" if self.setting else self.method

    @property
    def mean(self) -> float:
        """Over runs."""
        return fmean(self.values.values())

    @property
    def std(self) -> float | None:
        """Sample standard deviation over runs (ddof 1); None of a single one."""
        return stdev(self.values.values()) if len(self.values) > 1 else None


def over_seeds(rows: Iterable[ResultRow], suite: str, metrics: Iterable[str]) -> list[Seeds]:
    """The numbers of a suite, in order of first appearance; what has no number is left out.

    As in tables, seeds are rows that differ in nothing else.
    """
    frame = frame_of(row for row in rows if row.suite == suite)
    frame = frame[(frame["cell"] != EVERYTHING) & frame["value"].notna() & frame["metric"].isin(list(metrics))]
    found: list[Seeds] = []
    for (dataset, backbone), part in frame.groupby(["dataset", "backbone"], sort=False):
        settings = differing(part)
        index = ["method", "shots", *settings, "cell", "score", "metric"]
        if part.duplicated([*index, "seed"]).any():  # runs that nothing tells apart but their names
            settings.append("run")
            index.append("run")
        for names, group in part.groupby(index, sort=False):
            said = dict(zip(index, map(str, names), strict=True))
            setting = ", ".join(f"{_plain(key)} {said[key]}" for key in settings if said[key] != MISSING)
            found.append(_seeds(group, suite, str(dataset), str(backbone), said, setting))
    return found


def _plain(key: str) -> str:
    return key.removeprefix(SETUP).rpartition(".")[2]


def _seeds(group: pd.DataFrame, suite: str, dataset: str, backbone: str, said: dict[str, str], setting: str) -> Seeds:
    rows = list(group.itertuples())
    keys = [(str(row.run), None if pd.isna(row.seed) else int(row.seed)) for row in rows]  # type: ignore[arg-type]
    return Seeds(
        suite=suite,
        dataset=dataset,
        backbone=backbone,
        setting=setting,
        values=dict(zip(keys, (float(value) for value in group["value"]), strict=True)),
        images=tuple(int(n) for n in group["n"] if pd.notna(n)),
        of=tuple(group["of"].iloc[0]),
        **{name: said[name] for name in ("method", "shots", "cell", "score", "metric")},
    )

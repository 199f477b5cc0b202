"""Numbers over seeds, for figures: the same grouping as in tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, stdev

from vlmprompt.results.layout import differing
from vlmprompt.results.numbers import MISSING, SETUP, Number, by_fields, grouped, numbers_of
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
    wanted = set(metrics)
    numbers = [
        number
        for number in numbers_of(row for row in rows if row.suite == suite)
        if number.cell != EVERYTHING and number.value is not None and number.metric in wanted
    ]
    found: list[Seeds] = []
    for part in grouped(numbers, lambda number: (number.dataset, number.backbone)).values():
        settings = differing(part)
        index = ["method", "shots", *settings, "cell", "score", "metric"]
        places = {(number.fields(index), number.seed) for number in part}
        if len(places) < len(part):  # runs that nothing tells apart but their names
            settings.append("run")
            index.append("run")
        found += [_seeds(group, settings) for group in by_fields(part, index).values()]
    return found


def _plain(key: str) -> str:
    return key.removeprefix(SETUP).rpartition(".")[2]


def _seeds(group: list[Number], settings: list[str]) -> Seeds:
    first = group[0]
    said = [(_plain(name), first.field(name)) for name in settings]
    return Seeds(
        suite=first.suite,
        dataset=first.dataset,
        backbone=first.backbone,
        method=first.method,
        shots=first.shots,
        setting=", ".join(f"{name} {text}" for name, text in said if text != MISSING),
        cell=first.cell,
        score=first.score,
        metric=first.metric,
        values={(number.run, number.seed): number.value for number in group if number.value is not None},
        images=tuple(number.n for number in group if number.n is not None),
        of=first.of,
    )

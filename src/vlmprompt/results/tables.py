"""From rows to tables for people: one a suite and data set, methods down, metrics across, seeds averaged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from vlmprompt.results.harmonic import BASE, H_OF_MEANS, NEW, h
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import EVERYTHING, current

DDOF = 1  # sample standard deviation; CoOp's scripts use numpy's default, 0
MISSING = "–"
# Metrics that rows carry and tables leave out beside others: second conventions of what is shown.
UNSHOWN = frozenset({"fpr95_ood_pos", "aupr_in", "aupr_out", "aupr_in_trapezoid", "aupr_out_trapezoid"})
Column = tuple[str, str]  # cell (what stands before a slash), metric


@dataclass(frozen=True)
class SummaryTable:
    """A finished table.

    Attributes:
        title: suite, data set and backbone.
        columns: headers; the first `labels` of them head words, the others numbers.
        rows: texts, as long as `columns`.
        caption: how to read the numbers.
        footnotes: why numbers are missing; numbered from 1, referred to as "[1]".
    """

    title: str
    columns: tuple[str, ...]
    labels: int
    rows: tuple[tuple[str, ...], ...]
    caption: str
    footnotes: tuple[str, ...] = ()


def summarise(rows: Iterable[ResultRow]) -> list[SummaryTable]:
    """Tables of all rows, in order of first appearance, and their average where there are several data sets.

    Fractions are shown in percent with two decimals. Several seeds give mean ± sample standard deviation
    (ddof=1), a single one never does. Two runs of one method, shots and seed are kept apart by name.
    """
    frame = frame_of(rows)
    tables = []
    for (suite, backbone), part in frame.groupby(["suite", "backbone"], sort=False):
        layout = Layout.of(part)
        for dataset, group in part.groupby("dataset", sort=False):
            tables.append(table_of(f"{suite} on {dataset}, {backbone}", group, layout))
        if part["dataset"].nunique() > 1 and "run" not in layout.index:
            tables.append(_average(f"{suite}, mean over data sets, {backbone}", part, layout))
    return tables


def frame_of(rows: Iterable[ResultRow]) -> pd.DataFrame:
    """Rows that still hold, each unit of work once although several runs may quote it.

    Of a cell `a/b`, a goes across and b down, as "score".
    """
    fields = list(ResultRow.model_fields)
    quoted = {(row.key or id(row), row.method, row.cell, row.metric): row for row in current(rows)}
    frame = pd.DataFrame([row.model_dump() for row in quoted.values()], columns=fields)
    frame["value"] = frame["value"].astype(float)
    frame["shots"] = [_shots(row) for row in quoted.values()]
    frame["score"] = [cell.partition("/")[2] for cell in frame["cell"]]
    frame["cell"] = [cell.partition("/")[0] for cell in frame["cell"]]
    frame["column"] = list(zip(frame["cell"], frame["metric"], strict=True))
    return frame


def _shots(row: ResultRow) -> str:
    """Where neither shots nor seed matter nothing was trained; shots alone missing means all images."""
    if row.shots is not None:
        return str(row.shots)
    return MISSING if row.seed is None else "all"


@dataclass(frozen=True)
class Layout:
    """What goes down (`index`, fields of a row) and across (`columns` with their headers)."""

    index: list[str]
    headers: dict[Column, str]
    percent: dict[Column, bool]
    unshown: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, part: pd.DataFrame) -> Layout:
        measured = part[part["cell"] != EVERYTHING]
        by_cell = _same_partition(measured, "shots", "cell")
        index = ["method", "shots"] if not by_cell and set(part["shots"]) != {MISSING} else ["method"]
        index += ["score"] if measured["score"].any() else []
        if measured.duplicated([*index, "dataset", "column", "seed"]).any():
            index.append("run")
        ordered = measured.sort_values("shots", key=_order, kind="stable") if by_cell else measured
        all_columns: list[Column] = list(dict.fromkeys(ordered["column"]))
        columns = [c for c in all_columns if c[1] not in UNSHOWN] or all_columns
        lower = {c for c, up in zip(measured["column"], measured["higher_is_better"], strict=True) if not up}
        percent = {c: is_fraction(measured["value"][measured["column"] == c]) for c in columns}
        names = _names(columns)
        signs = dict.fromkeys(columns, "") if all(percent.values()) else _signs(percent)
        headers = {c: f"{names[c]}{signs[c]}{' ↓' if c in lower else ''}".replace("_", " ") for c in columns}
        return cls(index, headers, percent, list(dict.fromkeys(m for c, m in all_columns if (c, m) not in headers)))

    def title(self, text: str) -> str:
        """A title that also says what all columns have in common: their metric, or that they are percent."""
        metrics = {metric for _, metric in self.headers}
        only = f": {metrics.pop()}" if len(metrics) == 1 and len(self.headers) > 1 else ""
        return f"{text}{only}{' (%)' if all(self.percent.values()) else ''}"


def is_fraction(values: pd.Series[float]) -> bool:
    return bool(values.dropna().between(0, 1).all())


def _signs(percent: dict[Column, bool]) -> dict[Column, str]:
    return {column: " %" if is_percent else "" for column, is_percent in percent.items()}


def _order(shots: pd.Series[str]) -> pd.Series[float]:
    """Nothing trained, then by number, then all images."""
    known = {MISSING: 0.0, "all": float("inf")}
    return shots.map(lambda text: known[text] if text in known else float(text))


def _same_partition(frame: pd.DataFrame, a: str, b: str) -> bool:
    """Whether two fields with several values say the same: each value of one goes with one of the other."""
    pairs = frame[[a, b]].drop_duplicates()
    return len(pairs) > 1 and len(pairs) == frame[a].nunique() == frame[b].nunique()


def _names(columns: Sequence[Column]) -> dict[Column, str]:
    """The shortest header that tells columns apart: the metric, the cell, or both."""
    metrics = [metric for _, metric in columns]
    if len(columns) > 1 and len(set(metrics)) == 1:
        return {column: column[0] for column in columns}
    return {(cell, metric): metric if metrics.count(metric) == 1 else f"{cell} {metric}" for cell, metric in columns}


@dataclass
class _Notes:
    """Footnotes in the making."""

    texts: list[str] = field(default_factory=list)

    def marks(self, rows: pd.DataFrame) -> str:
        """References such as "[1][2]" to the notes of rows without a number."""
        numbers = dict.fromkeys(self._number(row) for row in rows.itertuples())
        return "".join(f"[{number}]" for number in numbers)

    def _number(self, row: Any) -> int:
        text = f"{row.status.replace('_', ' ')}: {row.note or 'no reason given'}"
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1


def table_of(title: str, group: pd.DataFrame, layout: Layout) -> SummaryTable:
    notes = _Notes()
    by_row = list(group.groupby(layout.index, sort=False))
    several = max((_seeds(part) for _, part in by_row), default=0) > 1
    body = []
    for names, part in by_row:
        untrained = notes.marks(part[part["cell"] == EVERYTHING])
        head, *others = (str(name) for name in names)
        cells = [_cell(part, column, layout, notes) for column in layout.headers]
        seeds = [str(_seeds(part) or MISSING)] if several else []
        body.append((f"{head} {untrained}".rstrip(), *others, *seeds, *cells))
    spread = [f"mean ± sample standard deviation (ddof={DDOF}) over seeds"] if several else []
    caption = _caption(layout, group, spread)
    columns = (*layout.index, *(["seeds"] if several else []), *layout.headers.values())
    labels = len(columns) - len(layout.headers)
    return SummaryTable(layout.title(title), columns, labels, tuple(body), caption, tuple(notes.texts))


def _seeds(part: pd.DataFrame) -> int:
    return int(part[part["cell"] != EVERYTHING]["seed"].nunique())


def _cell(part: pd.DataFrame, column: Column, layout: Layout, notes: _Notes) -> str:
    """Mean and spread of the numbers, and references to what is said of those that are missing."""
    mine = part[part["column"] == column]
    values = mine["value"].dropna()
    lacking = mine[mine["status"] != "ok"]
    marks = notes.marks(lacking)
    if values.empty:
        state = "failed" if (lacking["status"] == "failed").any() else "n/a"
        return f"{state} {marks}" if len(lacking) else MISSING
    mean = _mean(part, column)
    spread = values.std(ddof=DDOF) if len(values) > 1 and column[1] != H_OF_MEANS else None
    text = _number(mean, layout.percent[column])
    if spread is not None:
        text += f" ± {_number(spread, layout.percent[column])}"
    return f"{text} {marks}".rstrip()


def _mean(part: pd.DataFrame, column: Column) -> float:
    """The mean over runs; H of means is taken from the means of the runs that have both halves."""
    if column[1] != H_OF_MEANS:
        return float(part["value"][part["column"] == column].mean())
    halves = part[part["metric"] == "top1"].pivot_table(index="run", columns="cell", values="value")
    base, new = halves[[BASE, NEW]].dropna().mean()
    return h(float(base), float(new))


def _average(title: str, part: pd.DataFrame, layout: Layout) -> SummaryTable:
    """Unweighted means over data sets of the means over seeds, for methods that have them all."""
    datasets = part["dataset"].nunique()
    body = []
    for names, mine in part.groupby(layout.index, sort=False):
        per_dataset = [group for _, group in mine.groupby("dataset", sort=False)]
        cells = [_average_cell(per_dataset, column, layout, datasets) for column in layout.headers]
        body.append((*(str(name) for name in names), *cells))
    how = [f"unweighted mean over {datasets} data sets of the mean over seeds"]
    if any(MISSING in row[len(layout.index) :] for row in body):
        how.append(f"{MISSING} not measured on all of them")
    caption = _caption(layout, part, how)
    columns = (*layout.index, *layout.headers.values())
    return SummaryTable(layout.title(title), columns, len(layout.index), tuple(body), caption)


def _average_cell(groups: Sequence[pd.DataFrame], column: Column, layout: Layout, needed: int) -> str:
    complete = [g for g in groups if g["value"][g["column"] == column].notna().any()]
    if len(complete) < needed:
        return MISSING
    if column[1] == H_OF_MEANS:
        base, new = (sum(_mean(g, (cell, "top1")) for g in complete) / needed for cell in (BASE, NEW))
        return _number(h(base, new), layout.percent[column])
    return _number(sum(_mean(g, column) for g in complete) / needed, layout.percent[column])


def _number(value: float, percent: bool) -> str:
    return f"{100 * value:.2f}" if percent else f"{value:.4g}"


def _caption(layout: Layout, rows: pd.DataFrame, how: list[str]) -> str:
    """How the numbers came about, and what is noted of every one of them."""
    parts = list(how)
    if any(metric == H_OF_MEANS for _, metric in layout.headers):
        parts.append("h of means: H of the averaged base and new accuracy; mean of h: average of each run's H")
    if any("↓" in header for header in layout.headers.values()):
        parts.append("↓ lower is better")
    if layout.unshown:
        parts.append(f"also measured, see --reporter csv or --json: {', '.join(layout.unshown)}")
    notes = [note.split("; ") for note in rows["note"][rows["status"] == "ok"]]
    parts += [part for part in (notes[0] if notes else ()) if part and all(part in note for note in notes)]
    return "; ".join(parts)

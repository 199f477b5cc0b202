"""From rows to tables for people: one a suite and data set, methods down, metrics across, seeds averaged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from vlmprompt.results.harmonic import BASE, H_OF_MEANS, MEAN_OF_H, NEW, h
from vlmprompt.results.means import identity, with_means_of_what_is_shown
from vlmprompt.results.rows import BACKBONE_DIGEST, DATA, DATA_DIGEST, ResultRow
from vlmprompt.results.store import EVERYTHING

DDOF = 1  # sample standard deviation; CoOp's scripts use numpy's default, 0
MISSING = "–"
# Metrics that rows carry and tables leave out beside others: second conventions of what is shown.
UNSHOWN = frozenset({"fpr95_ood_pos", "aupr_in", "aupr_out", "aupr_in_trapezoid", "aupr_out_trapezoid"})
# What a number that cannot be shown stands as, by the row's status.
STATES = {"failed": "failed", "not_applicable": "n/a", "missing": "missing"}
HOW = {
    H_OF_MEANS: "harmonic mean of the averaged base and new accuracy",
    MEAN_OF_H: "average of each run's harmonic mean of base and new accuracy",
}
DEFAULT = "default"
PLAIN_CELL = "test"  # goes without saying in a title
SETUP = "setup."  # before a key of `ResultRow.setup` that became a column of the frame
Column = tuple[str, str]  # cell (what stands before a slash), metric


@dataclass(frozen=True)
class SummaryTable:
    """A finished table.

    Attributes:
        title: suite, data set and backbone.
        columns: headers; the first `labels` of them head words, the others numbers.
        rows: texts, as long as `columns`.
        images: how many are behind the numbers of a column, as long as `columns`; empty if nobody knows.
        caption: how to read the numbers.
        footnotes: why numbers are missing; numbered from 1, referred to as "[1]".
    """

    title: str
    columns: tuple[str, ...]
    labels: int
    rows: tuple[tuple[str, ...], ...]
    caption: str
    footnotes: tuple[str, ...] = ()
    images: tuple[str, ...] = ()


def summarise(rows: Iterable[ResultRow]) -> list[SummaryTable]:
    """Tables of all rows, in order of first appearance, and their average where there are several data sets.

    Fractions are shown in percent with two decimals. Several seeds give mean ± sample standard deviation
    (ddof=1), a single one never does. Seeds are rows that differ in nothing else: what tells the others apart
    (a setting, the code's version) becomes a column, data sets and towers of one name get tables of their own.
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
    """Rows as a frame, each unit of work once although several runs may quote it, means of what is there.

    Of a cell `a/b`, a goes across and b down, as "score".
    """
    newest = {(identity(row), row.cell, row.metric): row for row in rows}
    quoted = {(row.key or id(row), row.method, row.cell, row.metric): row for row in newest.values()}
    shown = _told_apart(with_means_of_what_is_shown(quoted.values()))
    frame = pd.DataFrame([row.model_dump() for row in shown], columns=list(ResultRow.model_fields))
    frame["value"] = frame["value"].astype(float)
    frame["shots"] = [_shots(row) for row in shown]
    frame["score"] = [cell.partition("/")[2] for cell in frame["cell"]]
    frame["cell"] = [cell.partition("/")[0] for cell in frame["cell"]]
    frame["column"] = list(zip(frame["cell"], frame["metric"], strict=True))
    for key in dict.fromkeys(key for setup in frame["setup"] for key in setup):
        frame[SETUP + key] = [setup.get(key, DEFAULT if "." in key else MISSING) for setup in frame["setup"]]
    return frame


def _told_apart(rows: Iterable[ResultRow]) -> list[ResultRow]:
    """The rows, with more in the names of data sets and towers where one name stands for several."""
    rows = list(rows)
    data = _labels([(row.dataset, row.setup.get(DATA_DIGEST), row.setup.get(DATA)) for row in rows])
    towers = _labels([(row.backbone, row.setup.get(BACKBONE_DIGEST), None) for row in rows])
    both = zip(rows, data, towers, strict=True)
    return [row.model_copy(update={"dataset": dataset, "backbone": tower}) for row, dataset, tower in both]


def _labels(things: Sequence[tuple[str, str | None, str | None]]) -> list[str]:
    """Names of things given as name, digest and spec: with the spec, or else the digest, where a name is not enough."""
    digests: dict[str, dict[str, str | None]] = {}  # name -> digest -> spec
    for name, digest, spec in things:
        if digest is not None:  # unknown of a training that failed
            digests.setdefault(name, {})[digest] = spec

    def label(name: str, digest: str | None, spec: str | None) -> str:
        known = digests.get(name, {})
        if len(known) < 2:
            return name
        specs = set(known.values())
        return f"{name} ({spec if spec and len(specs) == len(known) else digest or 'unknown'})"

    return [label(*thing) for thing in things]


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

    @property
    def labels(self) -> tuple[str, ...]:
        """Headers of the index: of a setting, its key without the table that it is in."""
        return tuple(name.rpartition(".")[2] if name.startswith(SETUP) else name for name in self.index)

    @classmethod
    def of(cls, part: pd.DataFrame) -> Layout:
        measured = part[part["cell"] != EVERYTHING]
        by_cell = _same_partition(measured, "shots", "cell")
        index = ["method", "shots"] if not by_cell and set(part["shots"]) != {MISSING} else ["method"]
        index += differing(measured)
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
        """A title that also says what all columns have in common: metric, cell, or that they are percent."""
        cells, metrics = ({column[i] for column in self.headers} for i in (0, 1))
        common = metrics if len(metrics) == 1 and len(self.headers) > 1 else cells if len(cells) == 1 else set()
        only = f": {', '.join(common)}" if common - {PLAIN_CELL} else ""
        return f"{text}{only}{' (%)' if all(self.percent.values()) else ''}"


def differing(measured: pd.DataFrame) -> list[str]:
    """The columns of settings in which rows of one method and shots differ: they are no seeds of one thing."""
    told_by_title = {SETUP + key for key in (DATA, DATA_DIGEST, BACKBONE_DIGEST)}
    settings = [name for name in measured.columns if name.startswith(SETUP) and name not in told_by_title]
    alike = measured.groupby(["dataset", "method", "shots"])
    return [name for name in settings if (alike[name].nunique() > 1).any()]


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
    columns = (*layout.labels, *(["seeds"] if several else []), *layout.headers.values())
    labels = len(columns) - len(layout.headers)
    images = _images(layout, labels, [group])
    return SummaryTable(layout.title(title), columns, labels, tuple(body), caption, tuple(notes.texts), images)


def _images(layout: Layout, labels: int, datasets: Sequence[pd.DataFrame]) -> tuple[str, ...]:
    """A last row that says how many images are behind the numbers of each column, over all data sets."""
    shown = [[part[part["column"] == column] for part in datasets] for column in layout.headers]
    texts = [behind([list(part.itertuples()) for part in parts]) for parts in shown]
    return ("images", *[""] * (labels - 1), *texts) if set(texts) - {MISSING} else ()


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


def _seeds(part: pd.DataFrame) -> int:
    return int(part[part["cell"] != EVERYTHING]["seed"].nunique())


def _cell(part: pd.DataFrame, column: Column, layout: Layout, notes: _Notes) -> str:
    """Mean and spread of the numbers, and references to what is said of those that are missing."""
    mine = part[part["column"] == column]
    values = mine["value"].dropna()
    lacking = mine[mine["status"] != "ok"]
    marks = notes.marks(lacking)
    if values.empty:
        states = [text for status, text in STATES.items() if (lacking["status"] == status).any()]
        return f"{states[0]} {marks}" if states else MISSING
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
    columns = (*layout.labels, *layout.headers.values())
    images = _images(layout, len(layout.index), [group for _, group in part.groupby("dataset", sort=False)])
    return SummaryTable(layout.title(title), columns, len(layout.index), tuple(body), caption, images=images)


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
    parts += [f"{header}: {HOW[metric]}" for (_, metric), header in layout.headers.items() if metric in HOW]
    if any("↓" in header for header in layout.headers.values()):
        parts.append("↓ lower is better")
    if layout.unshown:
        parts.append(f"also measured, see --reporter csv or --json: {', '.join(layout.unshown)}")
    notes = [note.split("; ") for note in rows["note"][rows["status"] == "ok"]]
    parts += [part for part in (notes[0] if notes else ()) if part and all(part in note for note in notes)]
    return "; ".join(parts)

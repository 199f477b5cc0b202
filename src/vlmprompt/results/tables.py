"""From rows to tables for people: one a suite and data set, methods down, metrics across, seeds averaged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vlmprompt.results.calibration import CALIBRATION_METRICS
from vlmprompt.results.cells import DDOF, ByColumn, Notes, average_cell, behind, by_column, cells
from vlmprompt.results.harmonic import H_OF_MEANS, MEAN_OF_H
from vlmprompt.results.layout import Layout
from vlmprompt.results.numbers import MISSING, SETUP, Number, by_fields, grouped, numbers_of
from vlmprompt.results.rows import DATA, ResultRow
from vlmprompt.results.store import EVERYTHING

KEEP = SETUP + "train.keep"
HOW = {
    H_OF_MEANS: "harmonic mean of the averaged base and new accuracy",
    MEAN_OF_H: "average of each run's harmonic mean of base and new accuracy",
}


@dataclass(frozen=True)
class SummaryTable:
    """A finished table.

    Attributes:
        title: suite, data set and backbone.
        columns: headers; the first `labels` of them head words, the others numbers.
        rows: texts, as long as `columns`.
        images: how many are behind the numbers of a column, as long as `columns`; empty if nobody knows.
        caption: how to read the numbers.
        footnotes: why numbers are missing, and what rows are of; numbered from 1, referred to as "[1]".
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

    One data set in two states (changed in its place, under other class names) is not several.

    Fractions are shown in percent with two decimals. Several seeds give mean ± sample standard deviation
    (ddof=1), a single one never does. Seeds are rows that differ in nothing else: what tells the others apart
    (a setting, the code's version) becomes a column, data sets and towers of one name get tables of their own.
    """
    tables = []
    kinds = grouped(numbers_of(rows), lambda number: (number.suite, number.backbone))
    for (suite, backbone), part in kinds.items():
        layout = Layout.of(part)
        datasets = grouped(part, lambda number: number.dataset)
        for dataset, group in datasets.items():
            tables.append(table_of(f"{suite} on {dataset}, {backbone}", group, layout))
        if len(datasets) > 1 and "run" not in layout.index and not _in_two_states(part):
            tables.append(_average(f"{suite}, mean over data sets, {backbone}", part, layout))
    return tables


def _in_two_states(part: Iterable[Number]) -> bool:
    """Whether one data set is there twice: changed in its place, or with other names for its classes."""
    by_spec = grouped((number for number in part if DATA in number.setup), lambda number: number.setup[DATA])
    return any(len({number.dataset for number in numbers}) > 1 for numbers in by_spec.values())


def table_of(title: str, group: Sequence[Number], layout: Layout) -> SummaryTable:
    """The table of one group of numbers, a line of it for each value of the layout's index."""
    notes = Notes()
    lines = by_fields(group, layout.index)
    several = max((_seeds(part) for part in lines.values()), default=0) > 1
    body = []
    for (head, *others), part in lines.items():
        untrained = notes.marks(number for number in part if number.cell == EVERYTHING)
        marks = untrained + _kept(part, notes)
        texts = cells(part, layout, notes)
        seeds = [str(_seeds(part) or MISSING)] if several else []
        body.append((f"{head} {marks}".rstrip(), *others, *seeds, *texts))
    spread = [f"mean ± sample standard deviation (ddof={DDOF}) over seeds"] if several else []
    caption = _caption(layout, group, spread)
    columns = (*layout.labels, *(["seeds"] if several else []), *layout.headers.values())
    labels = len(columns) - len(layout.headers)
    images = _images(layout, labels, [by_column(group)])
    return SummaryTable(layout.title(title), columns, labels, tuple(body), caption, tuple(notes.texts), images)


def _kept(part: Iterable[Number], notes: Notes) -> str:
    """A reference to what is said of runs that are measured in another state than their last."""
    chosen = any(number.field(KEEP) == "best" for number in part)
    return notes.mark("measured in the state that was best on the validation images (keep = best)") if chosen else ""


def _seeds(part: Iterable[Number]) -> int:
    return len({number.seed for number in part if number.cell != EVERYTHING} - {None})


def _average(title: str, part: Sequence[Number], layout: Layout) -> SummaryTable:
    """Unweighted means over data sets of the means over seeds, for methods that have them all."""
    datasets = {name: by_column(own) for name, own in grouped(part, lambda number: number.dataset).items()}
    body = []
    for names, mine in by_fields(part, layout.index).items():
        per_dataset = [by_column(own) for own in grouped(mine, lambda number: number.dataset).values()]
        texts = [average_cell(per_dataset, column, layout, len(datasets)) for column in layout.headers]
        body.append((*names, *texts))
    how = [f"unweighted mean over {len(datasets)} data sets of the mean over seeds"]
    if any(MISSING in row[len(layout.index) :] for row in body):
        how.append(f"{MISSING} not measured on all of them")
    caption = _caption(layout, part, how)
    columns = (*layout.labels, *layout.headers.values())
    images = _images(layout, len(layout.index), list(datasets.values()))
    return SummaryTable(layout.title(title), columns, len(layout.index), tuple(body), caption, images=images)


def _images(layout: Layout, labels: int, datasets: Sequence[ByColumn]) -> tuple[str, ...]:
    """A last row that says how many images are behind the numbers of each column, over all data sets."""
    texts = [behind([columns.get(column, ()) for columns in datasets]) for column in layout.headers]
    return ("images", *[""] * (labels - 1), *texts) if set(texts) - {MISSING} else ()


def _caption(layout: Layout, numbers: Iterable[Number], how: list[str]) -> str:
    """How the numbers came about, and what is noted of every one of them."""
    parts = list(how)
    parts += [f"{header}: {HOW[metric]}" for (_, metric), header in layout.headers.items() if metric in HOW]
    if any("↓" in header for header in layout.headers.values()):
        parts.append("↓ lower is better")
    others = [metric for metric in layout.unshown if metric not in CALIBRATION_METRICS]
    if others:
        parts.append(f"also measured, see --reporter csv or --json: {', '.join(others)}")
    if len(others) < len(layout.unshown):
        parts.append("also measured: 'vlmprompt report --calibration'")
    notes = [note.split("; ") for note in dict.fromkeys(number.note for number in numbers if number.status == "ok")]
    parts += [part for part in (notes[0] if notes else ()) if part and all(part in note for note in notes)]
    return "; ".join(parts)

"""Accuracy by class, the worst first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from vlmprompt.report.drawing import PALETTE, Names, all_short, drawn
from vlmprompt.report.measured import Outcome, classified, shown, trained_first
from vlmprompt.report.run import ReportRun
from vlmprompt.report.section import Figure, Part, Section, Table, Text
from vlmprompt.results.classes import PREFERRED, ClassLine, class_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

MOST_BARS = 64  # more classes are folded
AT_EACH_END = 20
TITLE = "Accuracy by class"
UNKNOWN = (
    "What was said of each image was not kept when these numbers were measured, so there are no accuracies of single "
    "classes, no confusion and no reliability. To measure again and keep it: vlmprompt evaluate RUN --force"
)
MOST_ROWS = 200  # of the table


@dataclass(frozen=True)
class Bar:
    """A bar: of one class, or with `classes` of as many, their mean."""

    label: str
    accuracy: float
    n: int
    classes: int = 1


def section(runs: Sequence[ReportRun]) -> Section | None:
    """The section; where nothing is known of single images it says what to run, and without any number it is None."""
    outcomes, more = shown(trained_first(classified(runs)))
    names = Names("classes")
    parts: list[Part] = []
    for outcome in outcomes:
        found = class_lines(outcome.details)
        parts += [_figure(names.of(outcome.title), outcome, found), _table(outcome, found)]
    if not parts:
        measured = any(row.suite in PREFERRED and row.value is not None for run in runs for row in run.rows)
        return Section("classes", TITLE, "", (Text(UNKNOWN),)) if measured else None
    intro = f"The share of each class's images that were told right, the worst first.{more}"
    return Section("classes", TITLE, intro, tuple(parts))


def folded(found: Sequence[ClassLine]) -> list[Bar]:
    """The bars from the top; of many classes the two ends, and all others as one."""
    bars = [Bar(name, one.accuracy, one.n) for name, one in zip(all_short([o.name for o in found]), found, strict=True)]
    if len(found) <= MOST_BARS:
        return bars
    rest = found[AT_EACH_END:-AT_EACH_END]
    label = f"the other {len(rest):,} classes: mean"
    middle = Bar(label, fmean(one.accuracy for one in rest), sum(one.n for one in rest), len(rest))
    return [*bars[:AT_EACH_END], middle, *bars[-AT_EACH_END:]]


def _figure(name: str, outcome: Outcome, found: Sequence[ClassLine]) -> Figure:
    bars = folded(found)
    mean = fmean(one.accuracy for one in found)

    def plot(canvas: Canvas) -> None:
        axes = canvas.subplots()
        places = range(len(bars))
        colours = [PALETTE[4] if bar.classes == 1 else PALETTE[5] for bar in bars]
        axes.barh(places, [100 * bar.accuracy for bar in bars], color=colours, height=0.75)
        axes.set_yticks(places, [bar.label for bar in bars])
        for place, bar in enumerate(bars):
            axes.text(100 * bar.accuracy + 1, place, f"{100 * bar.accuracy:.1f}  ({bar.n:,})", va="center", fontsize=7)
        axes.axvline(100 * mean, linestyle="--", linewidth=1, color=PALETTE[1])
        axes.set_xlim(0, 118)
        axes.set_xticks([0, 20, 40, 60, 80, 100])
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("accuracy (%), images in brackets")

    more = "" if len(found) <= MOST_BARS else f"; the {AT_EACH_END} worst and the {AT_EACH_END} best are shown singly"
    lacking = len(outcome.details.class_names) - len(found)
    without = f"; without images and left out: {lacking:,} of {len(outcome.details.class_names):,}" if lacking else ""
    caption = f"{outcome.images}, {len(found):,} classes{more}{without}. Dashed: mean over classes, {100 * mean:.2f} %."
    return drawn(name, outcome.title, caption, plot, (6.4, 0.9 + 0.17 * len(bars)))


def _table(outcome: Outcome, found: Sequence[ClassLine]) -> Table:
    rows = tuple(
        (one.name, f"{100 * one.accuracy:.2f}", f"{one.right:,}", f"{one.n:,}", _taken(one))
        for one in found[:MOST_ROWS]
    )
    left = len(found) - len(rows)
    caption = f"The {MOST_ROWS} worst of {len(found):,} classes." if left else ""
    columns = ("class", "accuracy (%)", "right", "images", "most often taken for")
    return Table(f"Classes of {outcome.title}", columns, rows, caption, folded=True)


def _taken(one: ClassLine) -> str:
    return "–" if one.taken_for is None else f"{one.taken_for} ({one.taken:,})"

"""Accuracy by class, the worst first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from vlmprompt.report.drawing import PALETTE, Names, drawn, short
from vlmprompt.report.measured import Outcome, classified, shown, trained_first
from vlmprompt.report.run import ReportRun
from vlmprompt.report.section import Figure, Part, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from vlmprompt.results.details import Details

MOST_BARS = 64  # more classes are folded
AT_EACH_END = 20
MOST_ROWS = 200  # of the table


@dataclass(frozen=True)
class ClassAccuracy:
    """One class: the share of its n images that were told right."""

    name: str
    n: int
    right: int

    @property
    def accuracy(self) -> float:
        """In [0, 1]."""
        return self.right / self.n


@dataclass(frozen=True)
class Bar:
    """A bar: of one class, or with `classes` of as many, their mean."""

    label: str
    accuracy: float
    n: int
    classes: int = 1


def section(runs: Sequence[ReportRun]) -> Section | None:
    """The section, or None where nothing is known of single images."""
    outcomes, more = shown(trained_first(classified(runs)))
    names = Names("classes")
    parts: list[Part] = []
    for outcome in outcomes:
        found = by_class(outcome.details)
        parts += [_figure(names.of(outcome.title), outcome, found), _table(outcome, found)]
    if not parts:
        return None
    intro = f"The share of each class's images that were told right, the worst first.{more}"
    return Section("classes", "Accuracy by class", intro, tuple(parts))


def by_class(details: Details) -> list[ClassAccuracy]:
    """Accuracies of the classes that have images, the worst first; equal ones in the order of the data set."""
    import numpy as np

    n_classes = len(details.class_names)
    images_K = np.bincount(details.label, minlength=n_classes)
    right_K = np.bincount(details.label[details.correct], minlength=n_classes)
    counts = zip(details.class_names, images_K.tolist(), right_K.tolist(), strict=True)
    return sorted((ClassAccuracy(*one) for one in counts if one[1]), key=lambda one: one.accuracy)


def folded(found: Sequence[ClassAccuracy]) -> list[Bar]:
    """The bars from the top; of many classes the two ends, and all others as one."""
    bars = [Bar(short(one.name), one.accuracy, one.n) for one in found]
    if len(found) <= MOST_BARS:
        return bars
    rest = found[AT_EACH_END:-AT_EACH_END]
    label = f"the other {len(rest):,} classes: mean"
    middle = Bar(label, fmean(one.accuracy for one in rest), sum(one.n for one in rest), len(rest))
    return [*bars[:AT_EACH_END], middle, *bars[-AT_EACH_END:]]


def _figure(name: str, outcome: Outcome, found: Sequence[ClassAccuracy]) -> Figure:
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
    without = f"; {lacking:,} classes without images are left out" if lacking else ""
    caption = f"{outcome.images}, {len(found):,} classes{more}{without}. Dashed: mean over classes, {100 * mean:.2f} %."
    return drawn(name, outcome.title, caption, plot, (6.4, 0.9 + 0.17 * len(bars)))


def _table(outcome: Outcome, found: Sequence[ClassAccuracy]) -> Table:
    rows = tuple((one.name, f"{100 * one.accuracy:.2f}", str(one.right), str(one.n)) for one in found[:MOST_ROWS])
    left = len(found) - len(rows)
    caption = f"The {MOST_ROWS} worst of {len(found):,} classes." if left else ""
    columns = ("class", "accuracy (%)", "right", "images")
    return Table(f"Classes of {outcome.title}", columns, rows, caption, folded=True)

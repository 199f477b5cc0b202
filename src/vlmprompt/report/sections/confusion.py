"""Which classes are taken for which others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vlmprompt.report.drawing import PALETTE, Names, all_short, drawn
from vlmprompt.report.measured import Outcome, classified, shown, trained_first
from vlmprompt.report.run import ReportRun
from vlmprompt.report.section import Figure, Part, Section, Table
from vlmprompt.results.classes import Counts, confusion

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from vlmprompt.results.details import Details

MOST_CLASSES = 64  # in a heat map; of more classes, those that are confused most
MOST_PAIRS = 20
MOST_WITH_NUMBERS = 16  # classes up to which the counts fit into the cells
FAINTEST = 0.25  # of a cell that is not empty


@dataclass(frozen=True)
class Pair:
    """Images of one class that were taken for another.

    Attributes:
        count: how many.
        n: images of the true class.
    """

    true: str
    predicted: str
    count: int
    n: int


@dataclass(frozen=True)
class HeatMap:
    """A confusion matrix, as it is drawn.

    Attributes:
        classes: their places in the data set, in its order.
        counts: images by true class (down) and predicted class (across), of these classes.
        images: of each of these classes, whatever they were taken for.
        elsewhere: images of these classes that were taken for a class that is not shown.
    """

    classes: tuple[int, ...]
    counts: Counts
    images: Counts
    elsewhere: int


def section(runs: Sequence[ReportRun]) -> Section | None:
    """The section, or None where nothing is known of single images."""
    outcomes, more = shown(trained_first(classified(runs)))
    names = Names("confusion")
    parts: list[Part] = []
    for outcome in outcomes:
        parts.append(_table(outcome))
        if len(outcome.details.class_names) > 1:
            parts.append(_figure(names.of(outcome.title), outcome))
    if not parts:
        return None
    return Section("confusion", "Confusion", f"Which classes are taken for which others.{more}", tuple(parts))


def worst_pairs(details: Details) -> list[Pair]:
    """All pairs that were confused, the most images first; of equal ones the largest share of the true class."""
    wrong = ~details.correct
    pairs, counts = np.unique(np.stack([details.label[wrong], details.prediction[wrong]]), axis=1, return_counts=True)
    images_K = np.bincount(details.label, minlength=len(details.class_names))
    found = [
        Pair(details.class_names[true], details.class_names[predicted], count, int(images_K[true]))
        for true, predicted, count in zip(*pairs.tolist(), counts.tolist(), strict=True)
    ]
    return sorted(found, key=lambda pair: (-pair.count, -pair.count / pair.n))


def heat_map(details: Details) -> HeatMap:
    """The matrix; of many classes those that take part in most confusions, either way."""
    counts = confusion(details)
    images_K = counts.sum(axis=1)
    places = np.arange(len(counts))
    if len(counts) > MOST_CLASSES:
        wrong = counts - np.diag(np.diag(counts))
        places = np.sort(np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1)), kind="stable")[:MOST_CLASSES])
    part = counts[np.ix_(places, places)]
    return HeatMap(tuple(places.tolist()), part, images_K[places], int(images_K[places].sum() - part.sum()))


def _table(outcome: Outcome) -> Table:
    pairs = worst_pairs(outcome.details)
    rows = tuple(
        (pair.true, pair.predicted, f"{pair.count:,}", f"{100 * pair.count / pair.n:.1f}", f"{pair.n:,}")
        for pair in pairs[:MOST_PAIRS]
    )
    wrong = sum(pair.count for pair in pairs)
    first = f" The {MOST_PAIRS} worst of {len(pairs):,} pairs." if len(pairs) > MOST_PAIRS else ""
    caption = f"{wrong:,} of {outcome.images} were told wrong.{first}"
    columns = ("class", "taken for", "images", "of the class (%)", "n of the class")
    return Table(f"Most confused in {outcome.title}", columns, rows, caption, labels=2)


def _figure(name: str, outcome: Outcome) -> Figure:
    found = heat_map(outcome.details)
    size = len(found.classes)

    def plot(canvas: Canvas) -> None:
        axes = canvas.subplots()
        share = found.counts / np.maximum(found.images, 1)[:, None]
        colour = [int(PALETTE[4][i : i + 2], 16) / 255 for i in (1, 3, 5)]
        opacity = np.where(found.counts > 0, FAINTEST + (1 - FAINTEST) * share, 0.0)
        pixels = np.concatenate([np.broadcast_to(colour, (size, size, 3)), opacity[..., None]], axis=2)
        axes.imshow(pixels, aspect="equal")
        labels = all_short([outcome.details.class_names[place] for place in found.classes], 18)
        letters = 8 if size <= MOST_WITH_NUMBERS else 4.5 if size > 40 else 6
        turned: dict[str, Any] = {"rotation": 90, "rotation_mode": "anchor", "ha": "right", "va": "center"}
        axes.set_xticks(range(size), labels, fontsize=letters, **turned)
        axes.set_yticks(range(size), labels, fontsize=letters)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.set_xlabel("taken for")
        axes.set_ylabel("class")
        if size <= MOST_WITH_NUMBERS:
            for i, j in zip(*found.counts.nonzero(), strict=True):
                axes.text(j, i, str(found.counts[i, j]), ha="center", va="center", fontsize=7)

    inches = 2.2 + 0.22 * size if size <= MOST_WITH_NUMBERS else 6.4
    return drawn(name, outcome.title, _caption(outcome, found), plot, (inches, inches))


def _caption(outcome: Outcome, found: HeatMap) -> str:
    caption = f"{outcome.images}. The stronger a cell, the larger the share of its row's class."
    every = len(outcome.details.class_names)
    if len(found.classes) < every:
        caption += (
            f" The {len(found.classes)} most confused of {every:,} classes, {int(found.images.sum()):,} images, of "
            f"which {found.elsewhere:,} were taken for a class that is not shown."
        )
    return caption

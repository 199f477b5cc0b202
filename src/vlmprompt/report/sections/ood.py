"""Telling images of known classes (in) from all others (out): scores of both, and ROC curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vlmprompt.errors import InputError
from vlmprompt.report.drawing import PALETTE, Names, drawn, look
from vlmprompt.report.measured import Outcome, scored, trained_first
from vlmprompt.report.measured import shown as shown_of
from vlmprompt.report.run import ReportRun
from vlmprompt.report.section import Figure, Part, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    Floats = np.ndarray[Any, np.dtype[np.float64]]

RECALL = 0.95
MOST_POINTS = 300  # of one ROC curve
BINS = 40
# The score whose histogram is drawn: the first of these that a run has.
DRAWN_SCORES = ("mcm", "gl-mcm", "msp")


@dataclass(frozen=True)
class Curve:
    """An ROC curve, images of known classes being positive.

    Attributes:
        fpr, tpr: shares of out and of in that are accepted, from (0, 0) to (1, 1); all corners of the exact curve, or
            some of them.
        auroc: area below the exact curve.
        fpr95: where the recall is nearest to 95 %, the least threshold of equally near ones: `fpr95_id_pos`.
    """

    fpr: Floats
    tpr: Floats
    auroc: float
    fpr95: float


@dataclass(frozen=True)
class Comparison:
    """One run against one set of other images: score -> (scores inside, scores outside).

    Attributes:
        left_out: scores with a value that is not finite, of which there is no curve.
    """

    outcome: Outcome
    set_name: str
    scores: dict[str, tuple[Floats, Floats]]
    left_out: tuple[str, ...]

    @property
    def title(self) -> str:
        """The run and the set."""
        return f"{self.outcome.run.title} against {self.set_name}"


def section(runs: Sequence[ReportRun]) -> Section | None:
    """The section, or None where no score of single images is known."""
    outcomes = trained_first(scored(runs))
    found = comparisons(outcomes)
    kept, more = shown_of([one.outcome for one in found])
    if not found:
        return None
    names = Names("ood")
    parts: list[Part] = []
    for one in found[: len(kept)]:
        curves = {score: roc(*sides) for score, sides in one.scores.items()}
        parts.append(_table(one, curves))
        if curves:
            parts += [
                _histogram(names.of("scores", one.title), one, curves),
                _roc(names.of("roc", one.title), one, curves),
            ]
    intro = (
        "Each image has a score, higher for images that look like those of the known classes (in) than for others "
        f"(out).{more}"
    )
    return Section("ood", "Images of other things", intro, tuple(parts))


def comparisons(outcomes: Sequence[Outcome]) -> list[Comparison]:
    """The scores of single images, cell by cell put together by run and set."""
    found: dict[tuple[int, str, str], Comparison] = {}
    for outcome in outcomes:
        set_name, _, own = outcome.row.cell.partition("/")
        place = (id(outcome.run), outcome.row.suite, set_name)
        known = found.get(place) or Comparison(outcome, set_name, {}, ())
        both = [score for score in outcome.details.inside if score in outcome.details.outside]
        left_out = list(known.left_out)
        scores = dict(known.scores)
        for score in [own] if own in both else both:
            sides = tuple(np.asarray(side[score], float) for side in (outcome.details.inside, outcome.details.outside))
            if all(len(side) and np.isfinite(side).all() for side in sides):
                scores[score] = (sides[0], sides[1])
            else:
                left_out.append(score)
        found[place] = Comparison(known.outcome, set_name, scores, tuple(dict.fromkeys(left_out)))
    return [one for one in found.values() if one.scores or one.left_out]


def roc(inside: Floats, outside: Floats) -> Curve:
    """The exact curve of one score, in NumPy alone: loading scikit-learn takes as long as all curves of a page.

    Raises:
        InputError: one side is empty.
    """
    if not len(inside) or not len(outside):
        raise InputError("an ROC curve needs images on both sides")
    values = np.concatenate([inside, outside])
    falling = np.argsort(-values, kind="stable")
    accepted = np.cumsum(falling < len(inside))  # of in, by thresholds from high to low
    # One corner for each distinct score: equal ones are accepted together.
    corners = np.append(np.flatnonzero(np.diff(values[falling])), len(values) - 1)
    tpr = np.concatenate([[0.0], accepted[corners] / len(inside)])
    fpr = np.concatenate([[0.0], (corners + 1 - accepted[corners]) / len(outside)])
    auroc = float(((tpr[1:] + tpr[:-1]) / 2 * np.diff(fpr)).sum())
    upwards = slice(int(np.searchsorted(tpr, 1.0)), None, -1)  # as evaluation.ood_metrics does
    nearest = int(np.argmin(np.abs(tpr[upwards] - RECALL)))
    return Curve(fpr, tpr, auroc, float(fpr[upwards][nearest]))


def thinned(curve: Curve, most: int = MOST_POINTS) -> Curve:
    """A curve through some of the corners of the exact one, both ends among them, evenly spread along it."""
    if len(curve.fpr) <= most:
        return curve
    along = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(curve.fpr), np.diff(curve.tpr)))])
    kept = np.unique(np.searchsorted(along, np.linspace(0, along[-1], most)).clip(0, len(along) - 1))
    kept[0], kept[-1] = 0, len(along) - 1
    return Curve(curve.fpr[kept], curve.tpr[kept], curve.auroc, curve.fpr95)


def histogram(inside: Floats, outside: Floats, bins: int = BINS) -> tuple[Floats, Floats, Floats]:
    """Edges (bins + 1), and of both sides the share of their images in each bin (bins)."""
    low, high = (float(edge(np.concatenate([inside, outside]))) for edge in (np.min, np.max))
    if not high > low:  # all scores are equal
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, bins + 1)
    shares = [np.histogram(side, edges)[0] / len(side) for side in (inside, outside)]
    return edges, shares[0], shares[1]


def _counts(one: Comparison) -> str:
    sides = next(iter(one.scores.values()), None)
    n_in, n_out = (
        (len(one.outcome.details.in_ids), len(one.outcome.details.out_ids)) if sides is None else map(len, sides)
    )
    return f"n = {n_in:,} images in ({one.outcome.row.dataset}), {n_out:,} out ({one.set_name})"


def _table(one: Comparison, curves: dict[str, Curve]) -> Table:
    rows = [(score, f"{100 * c.auroc:.2f}", f"{100 * c.fpr95:.2f}") for score, c in curves.items()]
    rows += [(score, "not finite", "not finite") for score in one.left_out]
    caption = f"{_counts(one)}. FPR95: out accepted where the recall of in is nearest to 95 %. ↓ lower is better."
    return Table(one.title, ("score", "AUROC (%)", "FPR95 (%) ↓"), tuple(rows), caption)


def _histogram(name: str, one: Comparison, curves: dict[str, Curve]) -> Figure:
    score = next((wanted for wanted in DRAWN_SCORES if wanted in curves), next(iter(curves)))
    edges, inside, outside = histogram(*one.scores[score])

    def plot(canvas: Canvas) -> None:
        axes = canvas.subplots()
        sides = (("in", inside, PALETTE[0], ""), (f"out: {one.set_name}", outside, PALETTE[1], "///"))
        for label, shares, colour, hatch in sides:
            axes.stairs(100 * shares, edges, fill=True, color=colour, alpha=0.3)
            axes.stairs(100 * shares, edges, color=colour, label=label, hatch=hatch, linewidth=1.2)
        axes.set_xlabel(f"score {score}")
        axes.set_ylabel("images (%)")
        axes.set_ylim(0)
        canvas.legend(loc="outside right upper")

    curve = curves[score]
    caption = (
        f"Score {score}: AUROC {100 * curve.auroc:.2f} %, FPR95 {100 * curve.fpr95:.2f} %. {_counts(one)}; each "
        f"side's shares in {BINS} bins of equal width."
    )
    return drawn(name, f"Scores of {one.title}", caption, plot, (6.4, 2.6))


def _roc(name: str, one: Comparison, curves: dict[str, Curve]) -> Figure:
    thin = {score: thinned(curve) for score, curve in curves.items()}

    def plot(canvas: Canvas) -> None:
        axes = canvas.subplots()
        for i, (score, curve) in enumerate(thin.items()):
            style = look(i) | {"marker": ""}
            axes.plot(100 * curve.fpr, 100 * curve.tpr, label=f"{score}, AUROC {100 * curve.auroc:.2f} %", **style)
        axes.axline((0, 0), slope=1, linestyle=":", linewidth=0.8, color=PALETTE[3])
        axes.axhline(100 * RECALL, linestyle="--", linewidth=0.8, color=PALETTE[1])
        axes.set_xlim(-1, 101)
        axes.set_ylim(-1, 101)
        axes.set_xlabel("out accepted (%)")
        axes.set_ylabel("in accepted (%)")
        canvas.legend(loc="outside right upper")

    dropped = any(len(thin[score].fpr) < len(curve.fpr) for score, curve in curves.items())
    few = f" Curves are drawn through at most {MOST_POINTS} of their corners; areas are of all." if dropped else ""
    caption = f"{_counts(one)}. Dashed: recall of 95 %.{few}"
    return drawn(name, f"ROC of {one.title}", caption, plot, (6.4, 3.6))

"""Whether confidence can be trusted: reliability diagrams and errors of calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vlmprompt.report.drawing import PALETTE, Names, drawn
from vlmprompt.report.measured import Outcome, classified, shown
from vlmprompt.report.run import ReportRun
from vlmprompt.report.section import Figure, Part, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from vlmprompt.results.calibration import Bin

BINS = 15


def section(runs: Sequence[ReportRun]) -> Section | None:
    """The section, or None where nothing is known of single images."""
    outcomes, more = shown(classified(runs))
    if not outcomes:
        return None
    names = Names("reliability")
    parts: list[Part] = [_table(outcomes)]
    parts += [_figure(names.of(outcome.title), outcome) for outcome in outcomes]
    intro = f"How often answers of a given confidence are right: below the diagonal, confidence is too high.{more}"
    return Section("reliability", "Reliability", intro, tuple(parts))


def _table(outcomes: Sequence[Outcome]) -> Table:
    rows = []
    for outcome in outcomes:
        found = outcome.details.calibration()
        top1 = 100 * float(outcome.details.correct.mean())
        ece, adaptive = (f"{100 * found[name]:.2f}" for name in ("ece_15", "ece_adaptive_15"))
        others = (f"{found[name]:.4f}" for name in ("brier", "nll", "aurc"))
        rows.append((outcome.title, f"{len(outcome.details):,}", f"{top1:.2f}", ece, adaptive, *others))
    columns = ("run", "n", "accuracy (%)", "ECE (%) ↓", "adaptive ECE (%) ↓", "Brier ↓", "NLL ↓", "AURC ↓")
    caption = (
        f"ECE: expected calibration error in {BINS} bins of equal width; adaptive: in {BINS} bins of equal mass. "
        "Brier score: summed over classes, 0 to 2. AURC: area under the risk-coverage curve. ↓ lower is better."
    )
    return Table("Calibration", columns, tuple(rows), caption)


def bins_of(outcome: Outcome) -> dict[str, list[Bin]]:
    """The bins of both diagrams."""
    from vlmprompt.results.calibration import reliability

    details = outcome.details
    return {
        "equal width": reliability(details.confidence, details.correct, BINS),
        "equal mass": reliability(details.confidence, details.correct, BINS, adaptive=True),
    }


def _figure(name: str, outcome: Outcome) -> Figure:
    found = bins_of(outcome)
    errors = outcome.details.calibration()
    mean = float(outcome.details.confidence.mean())

    def plot(canvas: Canvas) -> None:
        diagrams: Any = canvas.subplots(1, 2, sharey=True)
        for axes, (kind, bins), error in zip(diagrams, found.items(), ("ece_15", "ece_adaptive_15"), strict=True):
            _diagram(axes, bins, len(outcome.details))
            axes.set_title(f"{BINS} bins of {kind}, ECE {100 * errors[error]:.2f} %")
        diagrams[0].set_ylabel("accuracy (%)")
        canvas.legend(*diagrams[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)

    accuracy = float(outcome.details.correct.mean())
    caption = (
        f"{outcome.images}; mean confidence {100 * mean:.2f} %, accuracy {100 * accuracy:.2f} %. "
        f"Brier score {errors['brier']:.4f}. Hatched at the bottom: the share of the images in each bin."
    )
    return drawn(name, outcome.title, caption, plot, (6.4, 3.4))


def _diagram(axes: Any, bins: Sequence[Bin], n: int) -> None:
    """Accuracy of each bin as a bar, a dot at its mean confidence, and the bin's share of the images."""
    left = [100 * one.low for one in bins]
    # A bin of equal mass may have no width: its images have one confidence.
    width = [max(100 * (one.high - one.low), 0.4) for one in bins]
    bar = {"align": "edge", "linewidth": 0.8}
    right = [100 * one.accuracy for one in bins]
    axes.bar(left, right, width, color=PALETTE[4], edgecolor=PALETTE[0], alpha=0.55, label="accuracy", **bar)
    share = [100 * one.n / n for one in bins]
    axes.bar(left, share, width, fill=False, edgecolor=PALETTE[1], hatch="////", label="share of images", **bar)
    confidence = [100 * one.confidence for one in bins]
    axes.plot(confidence, right, "o", color=PALETTE[0], label="at mean confidence")
    axes.axline((0, 0), slope=1, linestyle="--", linewidth=1, color=PALETTE[1])
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.set_xlabel("confidence (%)")

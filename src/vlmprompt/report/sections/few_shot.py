"""Few-shot curves: accuracy over shots, several methods, with the spread over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlmprompt.report.drawing import Names, all_short, drawn, look
from vlmprompt.report.run import ReportRun
from vlmprompt.report.section import Figure, Section
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.seeds import Seeds, over_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

SUITE, METRIC = "few-shot", "top1"


@dataclass(frozen=True)
class Curve:
    """One method on one data set.

    Attributes:
        points: shots -> accuracy over seeds.
        level: the accuracy of a method that learns nothing, drawn as a line across; or None.
    """

    label: str
    points: dict[int, Seeds]
    level: Seeds | None = None


def section(runs: Sequence[ReportRun]) -> Section | None:
    """The section, or None where nothing was measured at two numbers of shots."""
    names, figures = Names("few-shot"), []
    for (dataset, backbone), curves in curves_of(row for run in runs for row in run.rows).items():
        if len({shots for curve in curves for shots in curve.points}) > 1:
            figures.append(_figure(names.of(dataset, backbone), dataset, backbone, curves))
    if not figures:
        return None
    intro = "Accuracy on the test split over the number of training images of each class."
    return Section("few-shot", "Few-shot curves", intro, tuple(figures))


def curves_of(rows: Iterable[ResultRow]) -> dict[tuple[str, str], list[Curve]]:
    """The curves of each data set and backbone: of the suite few-shot, of what it lacks accuracy on the test split."""
    measured = over_seeds(_as_few_shot(rows), SUITE, [METRIC])
    parts: dict[tuple[str, str], dict[str, list[Seeds]]] = {}
    for seeds in measured:
        parts.setdefault((seeds.dataset, seeds.backbone), {}).setdefault(seeds.label, []).append(seeds)
    return {place: [_curve(label, own) for label, own in labels.items()] for place, labels in parts.items()}


def _as_few_shot(rows: Iterable[ResultRow]) -> list[ResultRow]:
    """Rows of the suite, and those of accuracy on the test split of which it has no number: the same measure."""
    rows = [row for row in rows if row.metric == METRIC and row.value is not None]
    found = [row for row in rows if row.suite == SUITE]
    known = {_of(row) for row in found}
    plain = [row for row in rows if (row.suite, row.cell) == ("accuracy", "test") and _of(row) not in known]
    return found + [row.model_copy(update={"suite": SUITE, "cell": f"{row.shots or 0}-shot"}) for row in plain]


def _of(row: ResultRow) -> tuple[object, ...]:
    return row.method, row.dataset, row.backbone, row.shots, row.seed


def _curve(label: str, own: Sequence[Seeds]) -> Curve:
    points = {int(seeds.shots): seeds for seeds in own if seeds.shots.isdigit()}
    levels = [seeds for seeds in own if not seeds.shots.isdigit()]  # nothing is learned, or all images are
    return Curve(label, dict(sorted(points.items())), levels[0] if levels else None)


def _figure(name: str, dataset: str, backbone: str, curves: Sequence[Curve]) -> Figure:
    def plot(canvas: Canvas) -> None:
        axes = canvas.subplots()
        for i, (curve, label) in enumerate(zip(curves, all_short([c.label for c in curves], 40), strict=True)):
            style = look(i)
            if curve.points:
                means = [100 * seeds.mean for seeds in curve.points.values()]
                spread = [100 * (seeds.std or 0) for seeds in curve.points.values()]
                axes.errorbar(list(curve.points), means, yerr=spread, capsize=3, label=label, **style)
            if curve.level is not None:
                every = " (all images)" if curve.level.shots == "all" else ""
                dotted = {"color": style["color"], "linestyle": ":"}
                axes.axhline(100 * curve.level.mean, label=f"{label}{every}", **dotted)
        axes.set_xscale("log", base=2)
        shots = sorted({shots for curve in curves for shots in curve.points})
        axes.set_xticks(shots, [str(number) for number in shots])
        axes.minorticks_off()
        axes.set_xlabel("training images of each class")
        axes.set_ylabel("accuracy (%)")
        canvas.legend(loc="outside right upper")

    return drawn(name, f"{dataset}, {backbone}", _caption(curves), plot)


def _caption(curves: Sequence[Curve]) -> str:
    measured = [seeds for curve in curves for seeds in (*curve.points.values(), *filter(None, [curve.level]))]
    images = sorted({n for seeds in measured for n in seeds.images})
    seeds = sorted({len(one.values) for one in measured if one.shots != "–"}) or [1]
    number = "1 seed" if seeds == [1] else f"{_span(seeds)} seeds"
    said = f"n = {_span(images)} test images; {number} at each point"
    several = "; points are means, bars the sample standard deviation over seeds" if seeds[-1] > 1 else ""
    across = "; dotted: without few-shot training" if any(curve.level for curve in curves) else ""
    return f"{said}{several}{across}."


def _span(numbers: Sequence[int]) -> str:
    if not numbers:
        return "unknown"
    low, high = numbers[0], numbers[-1]
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"

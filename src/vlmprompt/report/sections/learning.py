"""Learning curves: loss and accuracy over the steps of the training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from vlmprompt.report.drawing import Names, all_short, drawn, look
from vlmprompt.report.run import ReportRun
from vlmprompt.report.section import Figure, Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

MOST_POINTS = 200  # of one curve
MOST_CURVES = 6  # in one figure: as many as there are colours
LONGEST = 42  # letters of a legend that has two columns
FEW = 30  # points that are marked one by one


@dataclass(frozen=True)
class Window:
    """Successive steps.

    Attributes:
        first, last: the steps that it holds.
        mean: over those of them that have a finite number; NaN where none has.
        n: how many have.
    """

    first: int
    last: int
    mean: float
    n: int

    @property
    def middle(self) -> float:
        """Where it is drawn."""
        return (self.first + self.last) / 2


@dataclass(frozen=True)
class Curves:
    """What one run's log says.

    Attributes:
        loss, accuracy: of the batches, by step.
        val_accuracy: step -> share of the validation images that were right.
        unfinite: steps whose loss is no finite number.
    """

    title: str
    loss: tuple[Window, ...]
    accuracy: tuple[Window, ...]
    val_accuracy: Mapping[int, float]
    steps: int
    unfinite: int
    train_images: int | None
    val_images: int | None


def section(runs: Sequence[ReportRun]) -> Section | None:
    """The section, or None where no run has a log."""
    found = [curves for run in runs if (curves := curves_of(run)) is not None]
    if not found:
        return None
    names, figures = Names("learning"), []
    for start in range(0, len(found), MOST_CURVES):
        figures += _figures(found[start : start + MOST_CURVES], names)
    intro = "What training logged at each step, and after epochs in which validation images were measured."
    return Section("learning", "Learning curves", intro, tuple(figures))


def curves_of(run: ReportRun) -> Curves | None:
    """The curves of a run, None where it has logged no step."""
    steps = [line for line in run.log if "step" in line and "loss" in line and not line.get("epoch_end")]
    if not steps:
        return None
    measured = [line for line in run.log if line.get("epoch_end") and _finite(line.get("val_accuracy")) is not None]
    return Curves(
        run.title,
        windows(steps, "loss"),
        windows(steps, "accuracy"),
        {int(line["step"]): float(line["val_accuracy"]) for line in measured},
        len(steps),
        sum(_finite(line.get("loss")) is None for line in steps),
        None if run.info is None else len(run.info.data.train_ids),
        None if run.info is None or run.info.kept is None else run.info.kept.val_images or None,
    )


def windows(lines: Sequence[Mapping[str, Any]], key: str, most: int = MOST_POINTS) -> tuple[Window, ...]:
    """A number of each line as means over windows of as many steps each (the last may have fewer), `most` at most."""
    size = max(1, math.ceil(len(lines) / most))
    found = []
    for start in range(0, len(lines), size):
        part = lines[start : start + size]
        values = [value for line in part if (value := _finite(line.get(key))) is not None]
        mean = fmean(values) if values else math.nan
        found.append(Window(int(part[0]["step"]), int(part[-1]["step"]), mean, len(values)))
    return tuple(found)


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _figures(curves: Sequence[Curves], names: Names) -> list[Figure]:
    which = curves[0].title if len(curves) == 1 else f"{len(curves)} runs"
    where = _where(curves)

    def loss(canvas: Canvas) -> None:
        axes = canvas.subplots()
        for i, (one, title) in enumerate(zip(curves, all_short([c.title for c in curves], LONGEST), strict=True)):
            _line(axes, one.loss, i, title)
        _finish(axes, curves, "loss")

    def accuracy(canvas: Canvas) -> None:
        axes = canvas.subplots()
        titles = all_short([c.title for c in curves], LONGEST - len(", validation"))
        for i, (one, title) in enumerate(zip(curves, titles, strict=True)):
            _line(axes, one.accuracy, i, f"{title}, training", faint=bool(one.val_accuracy), percent=100)
            if one.val_accuracy:
                seen = look(i) | {"linestyle": "-"}
                values = [100 * value for value in one.val_accuracy.values()]
                axes.plot(list(one.val_accuracy), values, label=f"{title}, validation", **seen)
        _finish(axes, curves, "accuracy (%)", everything=True)

    said = "Dashed: batches of the training; solid: validation images. " if any(c.val_accuracy for c in curves) else ""
    first = names.of("loss", *([curves[0].title] if len(curves) == 1 else []))
    second = names.of("accuracy", *([curves[0].title] if len(curves) == 1 else []))
    return [
        drawn(first, f"Loss of {which}", f"Loss of the batches. {where}", loss),
        drawn(second, f"Accuracy of {which}", f"{said}{where}", accuracy),
    ]


def _where(curves: Sequence[Curves]) -> str:
    """Of how many steps and images, and what each point is."""
    said: dict[str, list[str]] = {}
    for one in curves:
        size = max(window.last - window.first + 1 for window in one.loss)
        each = "each point is one step" if size == 1 else f"each point is the mean of up to {size} steps"
        images = [] if one.train_images is None else [f"n = {one.train_images:,} training images"]
        images += [] if one.val_images is None else [f"n = {one.val_images:,} validation images"]
        bad = [f"{one.unfinite} steps without a finite loss are left out"] if one.unfinite else []
        said.setdefault("; ".join([f"{one.steps:,} steps", each, *images, *bad]), []).append(one.title)
    if len(said) == 1:
        return f"{'Each run: ' if len(curves) > 1 else ''}{next(iter(said))}."
    return " ".join(f"{', '.join(titles)}: {text}." for text, titles in said.items())


def _line(axes: Any, points: Iterable[Window], i: int, title: str, *, faint: bool = False, percent: float = 1) -> None:
    points = list(points)
    style = look(i) | ({"linestyle": "--", "alpha": 0.6} if faint else {})
    if len(points) > FEW:
        style["marker"] = ""
    axes.plot([p.middle for p in points], [percent * p.mean for p in points], label=title, **style)


def _finish(axes: Any, curves: Sequence[Curves], name: str, *, everything: bool = False) -> None:
    axes.set_xlabel("step")
    axes.set_ylabel(name)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if len(curves) > 1 or everything:
        axes.figure.legend(loc="outside lower center", ncols=2 if everything or len(curves) > 2 else 1)

"""Bars in groups, with the spread over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlmprompt.report.drawing import PALETTE, Plot, all_short

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from vlmprompt.results.seeds import Seeds

MOST_NUMBERS = 16  # bars up to which their numbers are written above them
HATCHES = ("", "//", "..", "\\\\", "xx", "++")


@dataclass(frozen=True)
class Bar:
    """A number, a fraction; `std` is its sample standard deviation over seeds, None of a single one."""

    value: float
    std: float | None = None


def grouped(groups: Sequence[str], bars: Sequence[tuple[str, dict[str, Bar]]], ylabel: str) -> Plot:
    """A plot of bars: groups across, in each of them one bar of every label that has a number there."""

    def plot(canvas: Canvas) -> None:
        axes = canvas.subplots()
        width = 0.8 / max(1, len(bars))
        numbers = len(groups) * len(bars) <= MOST_NUMBERS
        handles: list[Any] = []
        for i, (_, own) in enumerate(bars):
            found = {g + (i - (len(bars) - 1) / 2) * width: own[name] for g, name in enumerate(groups) if name in own}
            handles.append(_draw(axes, found, width * 0.92, i))
            _spread(axes, {x: bar for x, bar in found.items() if bar.std is not None})
            if numbers:
                _numbers(axes, found)
        tilted: dict[str, Any] = {"rotation": 30, "rotation_mode": "anchor", "ha": "right"} if len(groups) > 5 else {}
        axes.set_xticks(range(len(groups)), all_short(groups, 20), **tilted)
        axes.tick_params(axis="x", length=0)
        axes.grid(visible=False, axis="x")
        axes.set_ylim(0, 110)
        axes.set_yticks([0, 20, 40, 60, 80, 100])
        axes.set_ylabel(ylabel)
        canvas.legend(handles, all_short([label for label, _ in bars], 40), loc="outside right upper")

    return plot


def _draw(axes: Any, bars: dict[float, Bar], width: float, i: int) -> tuple[Any, Any]:
    """Bars of one label, by their places; told apart by hatching where there are no colours. Gives their handles."""
    colour, hatch = PALETTE[i % len(PALETTE)], HATCHES[i % len(HATCHES)]
    heights = [100 * bar.value for bar in bars.values()]
    # Two layers: a bar with a pattern cannot be translucent.
    filled = axes.bar(list(bars), heights, width, color=colour, alpha=0.5)
    return filled, axes.bar(list(bars), heights, width, fill=False, edgecolor=colour, hatch=hatch)


def _spread(axes: Any, bars: dict[float, Bar]) -> None:
    if bars:
        ink = axes.xaxis.label.get_color()
        heights, stds = [100 * bar.value for bar in bars.values()], [100 * (bar.std or 0) for bar in bars.values()]
        axes.errorbar(list(bars), heights, stds, fmt="none", capsize=3, ecolor=ink, elinewidth=1)


def _numbers(axes: Any, bars: dict[float, Bar]) -> None:
    for x, bar in bars.items():
        axes.text(x, 100 * (bar.value + (bar.std or 0)) + 1, f"{100 * bar.value:.1f}", ha="center", fontsize=7)


def bar_of(seeds: Seeds) -> Bar:
    """Mean and spread over seeds."""
    return Bar(seeds.mean, seeds.std)


def label_of(seeds: Seeds, *, several_shots: bool) -> str:
    """What a bar is called: the method, and its shots where they differ."""
    return f"{seeds.label}, {in_words(seeds.shots)}" if several_shots and seeds.shots != "–" else seeds.label


def in_words(shots: str) -> str:
    """A number of shots as people say it; "all" stands for all images."""
    return {"1": "1 shot", "all": "all images"}.get(shots, f"{shots} shots")


def behind(found: Sequence[Seeds]) -> str:
    """Images and seeds behind numbers, cell by cell."""
    cells: dict[str, set[int]] = {}
    for seeds in found:
        cells.setdefault(seeds.cell, set()).update(seeds.images)
    said = [f"{cell} {_span(sorted(numbers))}" for cell, numbers in cells.items() if numbers]
    runs = sorted({len(seeds.values) for seeds in found})
    several = "; bars are means, lines the sample standard deviation over seeds" if runs[-1] > 1 else ""
    number = "1 seed" if runs == [1] else f"{_span(runs)} seeds"
    return f"n images: {', '.join(said) or 'unknown'}; {number}{several}."


def _span(numbers: Sequence[int]) -> str:
    return f"{numbers[0]:,}" if numbers[0] == numbers[-1] else f"{numbers[0]:,} to {numbers[-1]:,}"

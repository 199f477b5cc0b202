"""Bars in groups, with the spread over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlmprompt.report.drawing import PALETTE, Plot, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from vlmprompt.results.seeds import Seeds

HATCHES = ("", "///", "...", "\\\\\\", "xxx", "++")


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
        for i, (label, own) in enumerate(bars):
            there = [g for g, group in enumerate(groups) if group in own]
            x = [g + (i - (len(bars) - 1) / 2) * width for g in there]
            found = [own[groups[g]] for g in there]
            colour = PALETTE[i % len(PALETTE)]
            # Without colours bars are told apart by their hatching.
            style: dict[str, Any] = {
                "facecolor": f"{colour}99",
                "edgecolor": colour,
                "hatch": HATCHES[i % len(HATCHES)],
            }
            axes.bar(x, [100 * bar.value for bar in found], width * 0.92, label=short(label, 40), **style)
            spread = [(at, bar) for at, bar in zip(x, found, strict=True) if bar.std is not None]
            if spread:
                values, stds = ([100 * part for part in parts] for parts in _columns([bar for _, bar in spread]))
                axes.errorbar([at for at, _ in spread], values, stds, fmt="none", capsize=3, color=PALETTE[1])
            if len(groups) * len(bars) <= 16:
                for at, bar in zip(x, found, strict=True):
                    axes.text(
                        at, 100 * (bar.value + (bar.std or 0)) + 1, f"{100 * bar.value:.1f}", ha="center", fontsize=7
                    )
        tilted: dict[str, Any] = {"rotation": 30, "rotation_mode": "anchor", "ha": "right"} if len(groups) > 5 else {}
        axes.set_xticks(range(len(groups)), [short(group, 20) for group in groups], **tilted)
        axes.tick_params(axis="x", length=0)
        axes.grid(visible=False, axis="x")
        axes.set_ylim(0, 110)
        axes.set_yticks([0, 20, 40, 60, 80, 100])
        axes.set_ylabel(ylabel)
        canvas.legend(loc="outside right upper")

    return plot


def _columns(bars: Sequence[Bar]) -> tuple[list[float], list[float]]:
    return [bar.value for bar in bars], [bar.std or 0.0 for bar in bars]


def bar_of(seeds: Seeds) -> Bar:
    """Mean and spread over seeds."""
    return Bar(seeds.mean, seeds.std)


def label_of(seeds: Seeds, *, several_shots: bool) -> str:
    """What a bar is called: the method, and its shots where they differ."""
    return f"{seeds.label}, {seeds.shots} shots" if several_shots and seeds.shots != "–" else seeds.label


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

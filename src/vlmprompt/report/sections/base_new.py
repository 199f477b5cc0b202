"""From base to new classes: accuracy on both halves, and their harmonic mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from vlmprompt.report.bars import Bar, bar_of, behind, grouped, label_of
from vlmprompt.report.drawing import Names, drawn
from vlmprompt.report.run import ReportRun
from vlmprompt.report.section import Figure, Section
from vlmprompt.results.harmonic import BASE, NEW, h
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.seeds import Seeds, over_seeds

SUITE = "base-to-new"
HARMONIC = "harmonic mean"


@dataclass(frozen=True)
class Halves:
    """One method's two accuracies."""

    base: Seeds
    new: Seeds | None

    @property
    def harmonic(self) -> float | None:
        """Of the averaged accuracies of those runs that have both, as tables' `h of means`; None without any."""
        if self.new is None or not (both := [run for run in self.base.values if run in self.new.values]):
            return None
        return h(*(fmean(half.values[run] for run in both) for half in (self.base, self.new)))

    def bars(self) -> dict[str, Bar]:
        """What is drawn of it."""
        bars = {BASE: bar_of(self.base)} | ({NEW: bar_of(self.new)} if self.new is not None else {})
        return bars | ({HARMONIC: Bar(self.harmonic)} if self.harmonic is not None else {})


def section(runs: Sequence[ReportRun]) -> Section | None:
    """The section, or None where nothing was measured on two halves of the classes."""
    names, figures = Names(SUITE), []
    for (dataset, backbone), found in halves(row for run in runs for row in run.rows).items():
        several = len({half.base.shots for half in found} - {"–"}) > 1
        bars = [(label_of(half.base, several_shots=several), half.bars()) for half in found]
        every = [seeds for half in found for seeds in (half.base, half.new) if seeds is not None]
        caption = f"{behind(every)} The harmonic mean is that of the averaged accuracies."
        plot = grouped((BASE, NEW, HARMONIC), bars, "accuracy (%)")
        figures.append(drawn(names.of(dataset, backbone), f"{dataset}, {backbone}", caption, plot))
    if not figures:
        return None
    intro = "Trained on the base half of the classes, measured on each half in its own label space."
    parts: tuple[Figure, ...] = tuple(figures)
    return Section(SUITE, "From base to new classes", intro, parts)


def halves(rows: Iterable[ResultRow]) -> dict[tuple[str, str], list[Halves]]:
    """The two accuracies of each method, by data set and backbone."""
    found: dict[tuple[str, str], dict[tuple[str, str], dict[str, Seeds]]] = {}
    for seeds in over_seeds(rows, SUITE, ["top1"]):
        place = found.setdefault((seeds.dataset, seeds.backbone), {})
        place.setdefault((seeds.label, seeds.shots), {})[seeds.cell] = seeds
    return {
        place: own
        for place, methods in found.items()
        if (own := [Halves(cells[BASE], cells.get(NEW)) for cells in methods.values() if BASE in cells])
    }

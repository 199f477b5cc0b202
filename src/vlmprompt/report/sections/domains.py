"""Accuracy on the same classes in other domains, and on other data sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vlmprompt.report.bars import Bar, bar_of, behind, grouped, label_of
from vlmprompt.report.drawing import Names, drawn
from vlmprompt.report.run import ReportRun
from vlmprompt.report.section import Figure, Section
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.seeds import Seeds, over_seeds

SUITES = {"domain-generalization": "Other domains", "cross-dataset": "Other data sets"}
MEAN = "mean"


def section(runs: Sequence[ReportRun]) -> Section | None:
    """The section, or None where neither was measured."""
    rows = [row for run in runs for row in run.rows]
    names = Names("domains")
    figures = [
        _figure(names.of(suite, dataset, backbone), f"{title}: {dataset}, {backbone}", found)
        for suite, title in SUITES.items()
        for (dataset, backbone), found in by_data(rows, suite).items()
    ]
    if not figures:
        return None
    intro = "Accuracy where the images come from elsewhere than those of the training."
    return Section("domains", "Other domains and data sets", intro, tuple(figures))


def by_data(rows: Iterable[ResultRow], suite: str) -> dict[tuple[str, str], list[Seeds]]:
    """Accuracies of a suite by data set and backbone."""
    found: dict[tuple[str, str], list[Seeds]] = {}
    for seeds in over_seeds(rows, suite, ["top1"]):
        found.setdefault((seeds.dataset, seeds.backbone), []).append(seeds)
    return found


def _figure(name: str, title: str, found: Sequence[Seeds]) -> Figure:
    several = len({seeds.shots for seeds in found} - {"–"}) > 1
    cells = list(dict.fromkeys(seeds.cell for seeds in found))
    ordered = [cell for cell in cells if cell != MEAN] + [MEAN] * (MEAN in cells)
    bars: dict[str, dict[str, Bar]] = {}
    for seeds in found:
        bars.setdefault(label_of(seeds, several_shots=several), {})[seeds.cell] = bar_of(seeds)
    of = next((seeds.of for seeds in found if seeds.cell == MEAN and seeds.of), ())
    mean = f" Mean: plain mean over {', '.join(of)}." if of else ""
    plot = grouped(ordered, list(bars.items()), "accuracy (%)")
    return drawn(name, title, f"{behind(found)}{mean}", plot, (6.4, 3.2))

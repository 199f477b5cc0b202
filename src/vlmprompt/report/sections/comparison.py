"""Methods compared two by two on the same images, seed by seed where there are several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from vlmprompt.errors import InputError
from vlmprompt.report.bars import in_words
from vlmprompt.report.drawing import PALETTE, Names, all_short, drawn
from vlmprompt.report.measured import Outcome, all_classified
from vlmprompt.report.paired import LEVEL, Bootstrap, Difference, McNemar, holm, mcnemar, right_on
from vlmprompt.report.run import ReportRun
from vlmprompt.report.section import Figure, Part, Section, Table, Text

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from vlmprompt.report.paired import Bools

SEED = 0  # of what the bootstrap draws
MOST_ALL_PAIRS = 6  # methods up to which each is compared with each, else the first with all others
MOST_CELLS = 8


@dataclass(frozen=True)
class Side:
    """One method, of one or several seeds, on one cell.

    Attributes:
        label: unique among those that it is compared with.
        seeds: of its runs, in ascending order.
        outcomes: of the same runs.
    """

    label: str
    seeds: tuple[int | None, ...]
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True)
class Compared:
    """Two methods on the same images.

    Attributes:
        tests: of the seeds that both have, or of the single runs: which -> McNemar's test.
    """

    first: str
    second: str
    accuracies: tuple[float, float]
    difference: Difference
    tests: dict[str, McNemar]


def section(runs: Sequence[ReportRun]) -> Section | None:
    """The section, or None where there are no two methods with the same images."""
    names = Names("comparison")
    parts: list[Part] = []
    cells = [(cell, sides) for cell, sides in sides_of(runs).items() if len(sides) > 1]
    for cell, sides in cells[:MOST_CELLS]:
        found, refused = compare(sides)
        parts += [Text(f"{cell}: {reason}") for reason in refused]
        if found:
            parts += [_figure(names.of(cell), cell, found), _table(cell, found), *_by_seed(cell, found)]
    if not parts:
        return None
    left = f" Shown are the first {MOST_CELLS} of {len(cells)} cells." if len(cells) > MOST_CELLS else ""
    intro = (
        "Accuracies of two methods on the same images, with a bootstrap interval of the difference and McNemar's test "
        "of runs one by one. A small p says that chance alone seldom gives such a difference, not that it matters."
        f"{left}"
    )
    return Section("comparison", "Paired comparison", intro, tuple(parts))


def sides_of(runs: Iterable[ReportRun]) -> dict[str, list[Side]]:
    """The methods of each cell that was measured, the cell in words."""
    cells: dict[str, dict[tuple[object, ...], list[Outcome]]] = {}
    for outcome in all_classified(runs):
        row = outcome.row
        cell = f"{row.suite} {row.cell} on {row.dataset}"
        cells.setdefault(cell, {}).setdefault(outcome.thing, []).append(outcome)
    return {cell: _sides(list(things.values())) for cell, things in cells.items() if not _told_before(cell, cells)}


def _told_before(cell: str, cells: Mapping[str, Mapping[tuple[object, ...], object]]) -> bool:
    """Whether a cell's images are those of `accuracy test`, which is there for the same data and all its methods."""
    suite, _, rest = cell.partition(" ")
    own, _, data = rest.partition(" on ")
    same = suite == "few-shot" or (suite, own) == ("domain-generalization", "source")
    return same and cells[cell].keys() <= cells.get(f"accuracy test on {data}", {}).keys()


def _sides(things: Sequence[Sequence[Outcome]]) -> list[Side]:
    sides = []
    for outcomes in things:
        # Of runs of one seed, which nothing but their names tells apart, each stands for itself.
        by_seed: dict[int | None, list[Outcome]] = {}
        for outcome in outcomes:
            by_seed.setdefault(outcome.row.seed, []).append(outcome)
        if any(len(own) > 1 for own in by_seed.values()):
            sides += [Side(outcome.run.title, (outcome.row.seed,), (outcome,)) for outcome in outcomes]
            continue
        order = sorted(by_seed, key=lambda seed: -1 if seed is None else seed)
        sides.append(Side(_label(outcomes, things), tuple(order), tuple(by_seed[seed][0] for seed in order)))
    return sides


def _label(outcomes: Sequence[Outcome], things: Sequence[Sequence[Outcome]]) -> str:
    """Method and shots, the settings in which it differs from others of these, and how many seeds."""
    row = outcomes[0].row
    alike = [other[0].row for other in things if (other[0].row.method, other[0].row.shots) == (row.method, row.shots)]
    keys = sorted({key for other in alike for key in other.setup})
    differing = [key for key in keys if len({other.setup.get(key) for other in alike}) > 1]
    words = [row.method] + ([in_words(str(row.shots))] if row.shots is not None else [])
    words += [row.backbone] if len({other.backbone for other in alike}) > 1 else []
    words += [f"{key.rpartition('.')[2]} {row.setup.get(key, 'default')}" for key in differing if "digest" not in key]
    words += [f"{len(outcomes)} seeds"] if len(outcomes) > 1 else []
    return ", ".join(words)


def compare(sides: Sequence[Side]) -> tuple[list[Compared], list[str]]:
    """Pairs of methods; and why others could not be compared."""
    ids = _common_images(sides)
    rights: list[Bools] = []
    places: list[tuple[Side, range]] = []
    refused: list[str] = []
    for side in sides:
        try:
            own = _rights(side, ids)
        except InputError as error:
            refused.append(error.told)
        else:
            places.append((side, range(len(rights), len(rights) + len(own))))
            rights += own
    if len(places) < 2:
        return [], refused
    drawn = Bootstrap(np.stack(rights), Random(SEED))
    many = len(places) > MOST_ALL_PAIRS
    pairs = [(places[0], other) for other in places[1:]] if many else list(combinations(places, 2))
    return [_compared(first, second, drawn, rights) for first, second in pairs], refused


def _common_images(sides: Sequence[Side]) -> dict[str, tuple[str, str]]:
    """The images that most runs were measured on: id -> class, and whose these are."""
    outcomes = [outcome for side in sides for outcome in side.outcomes]
    (ids, _), *_ = Counter(frozenset(outcome.details.ids) for outcome in outcomes).most_common(1)
    first = next(outcome for outcome in outcomes if ids == frozenset(outcome.details.ids))
    names = [first.details.class_names[label] for label in first.details.label.tolist()]
    return {identity: (name, first.run.title) for identity, name in zip(first.details.ids, names, strict=True)}


def _rights(side: Side, images: dict[str, tuple[str, str]]) -> list[Bools]:
    """Of each run, which of the images were told right.

    Raises:
        InputError: a run was measured on others, or an image is of another class for it.
    """
    owner = next(iter(images.values()))[1]
    rights = [right_on(tuple(images), one.details, (owner, one.run.title)) for one in side.outcomes]
    for outcome in side.outcomes:
        details = outcome.details
        for identity, label in zip(details.ids, details.label.tolist(), strict=True):
            name, known = details.class_names[label], images[identity][0]
            if name != known:
                raise InputError(
                    f"image {identity} is of class {known!r} for {owner}, of {name!r} for {outcome.run.title}",
                    hint="measure both on the same data: 'vlmprompt evaluate RUN --data ... --force'",
                )
    return rights


def _compared(
    first: tuple[Side, range], second: tuple[Side, range], drawn: Bootstrap, rights: Sequence[Bools]
) -> Compared:
    (one, own), (other, theirs) = first, second
    gap = drawn.difference(own, theirs, Random(SEED), joint=one.seeds == other.seeds)
    accuracies = drawn.accuracy(own), drawn.accuracy(theirs)
    tests = _tests(one, other, [[rights[i] for i in side] for side in (own, theirs)])
    return Compared(one.label, other.label, accuracies, gap, tests)


def _tests(first: Side, second: Side, rights: Sequence[Sequence[Bools]]) -> dict[str, McNemar]:
    """McNemar's test of runs that belong together: the same seed, or a single run on either side."""
    if len(first.outcomes) == len(second.outcomes) == 1:
        return {"": mcnemar(rights[0][0], rights[1][0])}
    tests = {}
    for i, seed in enumerate(first.seeds):
        # What learns nothing has no seed, and is the same beside each.
        j = second.seeds.index(seed) if seed in second.seeds else 0 if second.seeds == (None,) else None
        if j is not None:
            tests[str(seed)] = mcnemar(rights[0][i], rights[1][j])
    if first.seeds == (None,):
        tests = {str(seed): mcnemar(rights[0][0], rights[1][j]) for j, seed in enumerate(second.seeds)}
    return tests


def _table(cell: str, found: Sequence[Compared]) -> Table:
    single = [one for one in found if list(one.tests) == [""]]
    corrected = dict(zip(map(id, single), holm([one.tests[""].p for one in single]), strict=True))
    rows = []
    for one in found:
        test = one.tests.get("")
        counts: tuple[str, ...] = ("–",) * 3 if single else ()  # where there are several seeds, they stand seed by seed
        if test is not None:
            counts = (f"{test.only_first:,}", f"{test.only_second:,}", _p(test.p))
        extra = (_p(corrected[id(one)]) if test else "–",) if len(single) > 1 else ()
        gap = one.difference
        interval = f"{100 * gap.value:+.2f} [{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]".replace("-", "−")
        accuracies = (f"{100 * accuracy:.2f}" for accuracy in one.accuracies)
        rows.append((one.first, one.second, f"{gap.n:,}", *accuracies, interval, *counts, *extra))
    columns = ["A", "B", "n", "A (%)", "B (%)", f"A − B [{LEVEL:.0%} interval]"]
    columns += ["A alone", "B alone", "p"] if single else []
    columns += ["p (Holm)"] if len(single) > 1 else []
    return Table(cell, tuple(columns), tuple(rows), _how(found, len(single)), labels=2)


def _how(found: Sequence[Compared], tests: int) -> str:
    drawn = list(dict.fromkeys(one.difference.how for one in found))
    resamples = found[0].difference.resamples
    said = [f"Intervals in percentage points: percentiles of {resamples:,} resamples of {'; or of '.join(drawn)}"]
    if tests:
        kinds = {one.tests[""].exact for one in found if "" in one.tests}
        exact = "exact binomial" if kinds == {True} else "chi-square with continuity correction"
        exact = "exact where A alone and B alone are together below 25, else chi-square" if len(kinds) > 1 else exact
        said.append(f"A alone, B alone: images that only this one gets right; p: McNemar's test, two-sided, {exact}")
    if tests > 1:
        said.append(f"Holm: corrected for {tests} tests")
    return f"{'; '.join(said)}."


def _by_seed(cell: str, found: Sequence[Compared]) -> list[Table]:
    """The tests of seeds one by one, as a table; none where there are no such tests."""
    tests = [(one, seed, test) for one in found for seed, test in one.tests.items() if seed]
    corrected = holm([test.p for _, _, test in tests])
    several = len(tests) > 1
    rows = tuple(
        (
            *(one.first, one.second, seed, f"{t.n:,}", f"{t.only_first:,}", f"{t.only_second:,}", _p(t.p)),
            *([_p(more)] if several else []),
        )
        for (one, seed, t), more in zip(tests, corrected, strict=True)
    )
    columns = ("A", "B", "seed", "n", "A alone", "B alone", "p", *(["p (Holm)"] if several else []))
    caption = "McNemar's test, two-sided." + (f" Holm: corrected for {len(tests)} tests." if several else "")
    title = f"{cell}, seed by seed"
    return [Table(title, columns, rows, caption, folded=True, labels=3)] if rows else []


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def _figure(name: str, cell: str, found: Sequence[Compared]) -> Figure:
    def plot(canvas: Canvas) -> None:
        axes = canvas.subplots()
        places = range(len(found))
        middle = [100 * one.difference.value for one in found]
        low = [m - 100 * one.difference.low for m, one in zip(middle, found, strict=True)]
        high = [100 * one.difference.high - m for m, one in zip(middle, found, strict=True)]
        # The difference lies in its percentile interval but for rounding.
        reach = [[max(0.0, part) for part in side] for side in (low, high)]
        axes.errorbar(middle, places, xerr=reach, fmt="o", capsize=3, color=PALETTE[0])
        axes.axvline(0, linestyle="--", linewidth=1, color=PALETTE[1])
        labels = all_short([label for one in found for label in (one.first, one.second)], 34)
        axes.set_yticks(places, [f"{a}\n− {b}" for a, b in zip(labels[::2], labels[1::2], strict=True)])
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("difference of accuracies (percentage points)")

    n = sorted({one.difference.n for one in found})
    images = f"{n[0]:,}" if len(n) == 1 else f"{n[0]:,} to {n[-1]:,}"
    caption = f"n = {images} images, the same for both. Lines: {LEVEL:.0%} bootstrap intervals."
    return drawn(name, cell, caption, plot, (6.4, 1.1 + 0.42 * len(found)))

"""What goes down and what goes across in a table, and what it is called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vlmprompt.results.calibration import CALIBRATION_METRICS
from vlmprompt.results.numbers import MISSING, SETUP, Column, Number, grouped
from vlmprompt.results.rows import BACKBONE_DIGEST, DATA, DATA_DIGEST
from vlmprompt.results.store import EVERYTHING

# Metrics that rows carry and tables leave out beside another one: second conventions of it, and what it does not say.
BESIDE: Mapping[str, frozenset[str]] = {
    "auroc": frozenset({"fpr95_ood_pos", "aupr_in", "aupr_out", "aupr_in_trapezoid", "aupr_out_trapezoid"}),
    "top1": frozenset(CALIBRATION_METRICS) - {"ece_15"},
}
# Suites whose tables leave the calibration error out as well.
WITHOUT_ECE = frozenset({"few-shot", "base-to-new", "domain-generalization", "cross-dataset"})
NO_FRACTIONS = frozenset({"brier", "nll", "parameters", "cosine"})  # which may be above 1 or below 0
DIFFERENCES = frozenset({"above_chance"})  # of fractions
PLAIN_CELL = "test"  # goes without saying in a title


@dataclass(frozen=True)
class Layout:
    """What goes down (`index`, fields of a row) and across (`columns` with their headers)."""

    index: list[str]
    headers: dict[Column, str]
    percent: dict[Column, bool]
    unshown: list[str] = field(default_factory=list)

    @property
    def labels(self) -> tuple[str, ...]:
        """Headers of the index: of a setting, its key without the table that it is in."""
        return tuple(name.rpartition(".")[2] if name.startswith(SETUP) else name for name in self.index)

    @classmethod
    def of(cls, part: Sequence[Number]) -> Layout:
        measured = [number for number in part if number.cell != EVERYTHING]
        by_cell = _same_partition(measured)
        index = ["method"] if by_cell or {number.shots for number in part} == {MISSING} else ["method", "shots"]
        index += differing(measured)
        index += ["score"] if any(number.score for number in measured) else []
        places = [(number.fields(index), number.dataset, number.column, number.seed) for number in measured]
        if len(set(places)) < len(places):
            index.append("run")
        ordered = sorted(measured, key=lambda number: _order(number.shots)) if by_cell else measured
        columns = grouped(ordered, lambda number: number.column)
        hidden = _hidden({metric for _, metric in columns}, {number.suite for number in part})
        shown = [column for column in columns if column[1] not in hidden]
        percent = {column: is_fraction(column, columns[column]) for column in shown}
        names = _names(shown)
        signs = percent_signs(percent)
        headers = {c: f"{names[c]}{signs[c]}{down(columns[c])}".replace("_", " ") for c in shown}
        return cls(index, headers, percent, list(dict.fromkeys(m for c, m in columns if (c, m) not in headers)))

    def title(self, text: str) -> str:
        """A title that also says what all columns have in common: metric, cell, or that they are percent."""
        cells, metrics = ({column[i] for column in self.headers} for i in (0, 1))
        common = metrics if len(metrics) == 1 and len(self.headers) > 1 else cells if len(cells) == 1 else set()
        said = common if "score" in self.index else common - {PLAIN_CELL}  # a set of other images may be called so
        only = f": {', '.join(common)}" if said else ""
        return f"{text}{only}{' (%)' if all(self.percent.values()) else ''}"


def differing(measured: Iterable[Number]) -> list[str]:
    """The settings in which numbers of one method and shots differ: they are no seeds of one thing."""
    alike = grouped(measured, lambda number: (number.dataset, number.method, number.shots))
    # Each setup once: a run has as many numbers as there are metrics and cells.
    setups = [list({tuple(one.setup.items()): one for one in numbers}.values()) for numbers in alike.values()]
    keys = dict.fromkeys(key for numbers in setups for number in numbers for key in number.setup)
    told_by_title = {DATA, DATA_DIGEST, BACKBONE_DIGEST}
    names = [SETUP + key for key in keys if key not in told_by_title]
    return [name for name in names if any(len({one.field(name) for one in numbers}) > 1 for numbers in setups)]


def down(numbers: Iterable[Number]) -> str:
    """What a header says of numbers of which the lower are better."""
    return "" if all(number.higher_is_better for number in numbers) else " ↓"


def _hidden(metrics: set[str], suites: set[str]) -> set[str]:
    """Of the metrics of a suite, those that its tables leave out."""
    found = {hidden for metric in metrics for hidden in BESIDE.get(metric, ())}
    return found | {"ece_15"} if "top1" in metrics and suites <= WITHOUT_ECE else found


def is_fraction(column: Column, numbers: Iterable[Number]) -> bool:
    """Whether all numbers of a column are such as are shown in percent."""
    least = -1 if column[1] in DIFFERENCES else 0
    return column[1] not in NO_FRACTIONS and all(one.value is None or least <= one.value <= 1 for one in numbers)


def percent_signs(percent: Mapping[Column, bool]) -> dict[Column, str]:
    """What the headers of columns end with; nothing where all are percent, which the title says."""
    mixed = not all(percent.values())
    return {column: " %" if is_percent and mixed else "" for column, is_percent in percent.items()}


def _order(shots: str) -> float:
    """Nothing trained, then by number, then all images."""
    known = {MISSING: 0.0, "all": float("inf")}
    return known[shots] if shots in known else float(shots)


def _same_partition(numbers: Iterable[Number]) -> bool:
    """Whether shots and cells, several of each, say the same: each value of one goes with one of the other."""
    pairs = {(number.shots, number.cell) for number in numbers}
    return len(pairs) > 1 and all(len({pair[i] for pair in pairs}) == len(pairs) for i in (0, 1))


def _names(columns: Sequence[Column]) -> dict[Column, str]:
    """The shortest header that tells columns apart: the metric, the cell, or both."""
    metrics = [metric for _, metric in columns]
    if len(columns) > 1 and len(set(metrics)) == 1:
        return {column: column[0] for column in columns}
    return {(cell, metric): metric if metrics.count(metric) == 1 else f"{cell} {metric}" for cell, metric in columns}

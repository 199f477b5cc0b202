"""What goes down and what goes across in a table, and what it is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from vlmprompt.results.calibration import CALIBRATION_METRICS
from vlmprompt.results.frame import MISSING, SETUP, Column
from vlmprompt.results.rows import BACKBONE_DIGEST, DATA, DATA_DIGEST
from vlmprompt.results.store import EVERYTHING

# Metrics that rows carry and tables leave out beside another one: second conventions of it, and what it does not say.
BESIDE: Mapping[str, frozenset[str]] = {
    "auroc": frozenset({"fpr95_ood_pos", "aupr_in", "aupr_out", "aupr_in_trapezoid", "aupr_out_trapezoid"}),
    "top1": frozenset(CALIBRATION_METRICS) - {"ece_15"},
}
# Suites whose tables leave the calibration error out as well.
WITHOUT_ECE = frozenset({"few-shot", "base-to-new", "domain-generalization", "cross-dataset"})
NO_FRACTIONS = frozenset({"brier", "nll"})  # which may be above 1
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
    def of(cls, part: pd.DataFrame) -> Layout:
        measured = part[part["cell"] != EVERYTHING]
        by_cell = _same_partition(measured, "shots", "cell")
        index = ["method", "shots"] if not by_cell and set(part["shots"]) != {MISSING} else ["method"]
        index += differing(measured)
        index += ["score"] if measured["score"].any() else []
        if measured.duplicated([*index, "dataset", "column", "seed"]).any():
            index.append("run")
        ordered = measured.sort_values("shots", key=_order, kind="stable") if by_cell else measured
        all_columns: list[Column] = list(dict.fromkeys(ordered["column"]))
        hidden = _hidden({metric for _, metric in all_columns}, set(part["suite"]))
        columns = [c for c in all_columns if c[1] not in hidden]
        lower = {c for c, up in zip(measured["column"], measured["higher_is_better"], strict=True) if not up}
        percent = {c: is_fraction(c, measured["value"][measured["column"] == c]) for c in columns}
        names = _names(columns)
        signs = dict.fromkeys(columns, "") if all(percent.values()) else _signs(percent)
        headers = {c: f"{names[c]}{signs[c]}{' ↓' if c in lower else ''}".replace("_", " ") for c in columns}
        return cls(index, headers, percent, list(dict.fromkeys(m for c, m in all_columns if (c, m) not in headers)))

    def title(self, text: str) -> str:
        """A title that also says what all columns have in common: metric, cell, or that they are percent."""
        cells, metrics = ({column[i] for column in self.headers} for i in (0, 1))
        common = metrics if len(metrics) == 1 and len(self.headers) > 1 else cells if len(cells) == 1 else set()
        said = common if "score" in self.index else common - {PLAIN_CELL}  # a set of other images may be called so
        only = f": {', '.join(common)}" if said else ""
        return f"{text}{only}{' (%)' if all(self.percent.values()) else ''}"


def differing(measured: pd.DataFrame) -> list[str]:
    """The columns of settings in which rows of one method and shots differ: they are no seeds of one thing."""
    told_by_title = {SETUP + key for key in (DATA, DATA_DIGEST, BACKBONE_DIGEST)}
    settings = [name for name in measured.columns if name.startswith(SETUP) and name not in told_by_title]
    alike = measured.groupby(["dataset", "method", "shots"])
    return [name for name in settings if (alike[name].nunique() > 1).any()]


def _hidden(metrics: set[str], suites: set[str]) -> set[str]:
    """Of the metrics of a suite, those that its tables leave out."""
    found = {hidden for metric in metrics for hidden in BESIDE.get(metric, ())}
    return found | {"ece_15"} if "top1" in metrics and suites <= WITHOUT_ECE else found


def is_fraction(column: Column, values: pd.Series[float]) -> bool:
    """Whether all numbers of a column are such as are shown in percent."""
    return column[1] not in NO_FRACTIONS and bool(values.dropna().between(0, 1).all())


def _signs(percent: dict[Column, bool]) -> dict[Column, str]:
    return {column: " %" if is_percent else "" for column, is_percent in percent.items()}


def _order(shots: pd.Series[str]) -> pd.Series[float]:
    """Nothing trained, then by number, then all images."""
    known = {MISSING: 0.0, "all": float("inf")}
    return shots.map(lambda text: known[text] if text in known else float(text))


def _same_partition(frame: pd.DataFrame, a: str, b: str) -> bool:
    """Whether two fields with several values say the same: each value of one goes with one of the other."""
    pairs = frame[[a, b]].drop_duplicates()
    return len(pairs) > 1 and len(pairs) == frame[a].nunique() == frame[b].nunique()


def _names(columns: Sequence[Column]) -> dict[Column, str]:
    """The shortest header that tells columns apart: the metric, the cell, or both."""
    metrics = [metric for _, metric in columns]
    if len(columns) > 1 and len(set(metrics)) == 1:
        return {column: column[0] for column in columns}
    return {(cell, metric): metric if metrics.count(metric) == 1 else f"{cell} {metric}" for cell, metric in columns}

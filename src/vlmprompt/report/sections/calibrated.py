"""The temperature that `vlmprompt calibrate` has fitted to each run, and what it changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vlmprompt.predict.calibrated import Calibrated, Measured, Sets
from vlmprompt.report.run import ReportRun
from vlmprompt.report.section import Section, Table

_INTRO = (
    "'vlmprompt calibrate' divides a run's logits by one temperature; what is predicted stays as it is. "
    "Results elsewhere on this page are those without it, unless a temperature is named."
)
_METRICS = {"ece_15": "ECE (%)", "nll": "NLL", "brier": "Brier"}
_PERCENT = "ece_15"
MISSING = "–"


def section(runs: Sequence[ReportRun]) -> Section | None:
    """A table of temperatures with errors before and after, and one of prediction sets."""
    fitted = [(run.name, run.calibration) for run in runs if run.calibration is not None]
    if not fitted:
        return None
    heads = [f"{name} {when}" for name in _METRICS.values() for when in ("before", "after")]
    columns = ("run", "measured on", "n", "temperature", *heads)
    rows = tuple((name, *line) for name, found in fitted for line in _measured(found))
    parts = [
        Table("Temperatures", columns, rows, "ECE in 15 bins of equal width; all of these: lower is better", labels=2)
    ]
    sets = tuple((name, *_set(one)) for name, found in fitted for one in found.conformal)
    if sets:
        columns = ("run", "may miss", "classes of at least", "set on n", "covered", "mean size", "test images")
        caption = "A set holds all classes whose probability, at the temperature, is at least so large."
        parts.append(Table("Prediction sets", columns, sets, caption))
    return Section("calibrated", "Temperature", _INTRO, tuple(parts))


def _measured(found: Calibrated) -> Iterator[tuple[str, ...]]:
    yield (f"{found.split}, fitted on it", *_numbers(found, found.temperature))
    if found.test is not None:
        yield ("test", *_numbers(found.test, found.temperature))


def _numbers(found: Calibrated | Measured, temperature: float) -> tuple[str, ...]:
    metrics = [_metric(name, part.get(name)) for name in _METRICS for part in (found.before, found.after)]
    return (f"{found.n:,}", f"{temperature:.4g}", *metrics)


def _metric(name: str, value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{100 * value:.2f}" if name == _PERCENT else f"{value:.4f}"


def _set(one: Sets) -> tuple[str, ...]:
    covered = MISSING if one.coverage is None else f"{one.coverage:.2%}"
    size = MISSING if one.mean_size is None else f"{one.mean_size:.2f}"
    return (f"{one.alpha:.0%}", f"{1 - one.threshold:.4f}", f"{one.n:,}", covered, size, f"{one.test_n:,}")

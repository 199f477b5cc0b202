"""The temperature that `vlmprompt calibrate` has fitted to each run, and what it changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vlmprompt.report.run import ReportRun
from vlmprompt.report.section import Section, Table

_INTRO = (
    "One temperature for all logits of a run, fitted by 'vlmprompt calibrate'; predictions do not change. "
    "The results above are those of the run as it was trained, unless their suite says otherwise."
)
_NAMES = {"ece_15": "ECE", "nll": "NLL"}


def section(runs: Sequence[ReportRun]) -> Section | None:
    """A table of temperatures, and one of the sizes and coverage of prediction sets."""
    fitted = [(run.name, run.calibration) for run in runs if run.calibration is not None]
    if not fitted:
        return None
    columns = ("run", "fitted on", "images", "temperature", "ECE before", "after", "NLL before", "after")
    rows = tuple((name, *_temperature(found)) for name, found in fitted)
    parts = [Table("Temperature", columns, rows, "before and after on the images that it was fitted on", labels=2)]
    sets = tuple((name, *_set(one)) for name, found in fitted for one in _listed(found.get("conformal")))
    if sets:
        heads = ("run", "wanted", "threshold", "fitted on", "covered", "mean size", "test images")
        caption = "prediction sets: classes whose probability is at least 1 - threshold; wanted is 1 - alpha"
        parts.append(Table("Prediction sets", heads, sets, caption))
    return Section("calibrated", "Calibration", _INTRO, tuple(parts))


def _temperature(found: Mapping[str, Any]) -> tuple[str, ...]:
    before, after = (part if isinstance(part := found.get(when), Mapping) else {} for when in ("before", "after"))
    numbers = [_number(part.get(name)) for name in _NAMES for part in (before, after)]
    return (str(found.get("split", "–")), _number(found.get("n")), _number(found.get("temperature")), *numbers)


def _set(one: Mapping[str, Any]) -> tuple[str, ...]:
    alpha, coverage = one.get("alpha"), one.get("coverage")
    wanted = f"{1 - alpha:.0%}" if isinstance(alpha, float) else "–"
    covered = f"{coverage:.2%}" if isinstance(coverage, float) else "–"
    sizes = (_number(one.get(name)) for name in ("mean_size", "test_n"))
    return (wanted, _number(one.get("threshold")), _number(one.get("n")), covered, *sizes)


def _listed(found: object) -> list[Mapping[str, Any]]:
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _number(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"

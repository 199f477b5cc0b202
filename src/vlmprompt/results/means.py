"""Means over sets or domains, taken when they are shown: of what stands beside them, whenever it was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from vlmprompt.results.rows import ResultRow

Identity = tuple[object, ...]


def with_means_of_what_is_shown(rows: Iterable[ResultRow]) -> list[ResultRow]:
    """The rows, each mean taken over all of them that enter it.

    Several evaluations of a run may have measured different sets, and the last of them stored the mean of its own.
    Where one of the numbers is lacking, so is the mean, for the same reason.
    """
    shown = {(identity(row), row.cell, row.metric): row for row in rows}
    entering: dict[tuple[Identity, str, str], list[ResultRow]] = {}
    for (own, cell, metric), row in shown.items():
        score = cell.partition("/")[2]
        for mean in row.enters:
            entering.setdefault((own, f"{mean}/{score}" if score else mean, metric), []).append(row)
    means = {
        place: _mean(place[1], parts, shown.pop(place, None)) for place, parts in entering.items() if len(parts) > 1
    }
    return [*shown.values(), *means.values()]


def identity(row: ResultRow) -> Identity:
    """Of what a row is a number: everything but cell and metric."""
    setup = tuple(sorted(row.setup.items()))
    return row.run, row.method, row.dataset, row.backbone, row.shots, row.seed, row.suite, setup


def _mean(cell: str, parts: Sequence[ResultRow], stored: ResultRow | None) -> ResultRow:
    """The mean of several rows; of a stored one everything else is kept."""
    of = tuple(part.cell.partition("/")[0] for part in parts)
    row = stored or parts[0].model_copy(update={"cell": cell, "key": "", "note": "", "n": None, "enters": ()})
    lacking = next((part for part in parts if part.value is None), None)
    if lacking is not None:
        return row.model_copy(update={"status": lacking.status, "value": None, "note": lacking.note, "of": of})
    if row.status == "ok" and set(row.of) == set(of):
        return row
    value = fmean(part.value for part in parts if part.value is not None)
    return row.model_copy(update={"status": "ok", "value": value, "n": None, "note": mean_note(of), "of": of})


def mean_note(of: Sequence[str]) -> str:
    """What a mean says of itself; nothing for a number that is none."""
    return f"mean over {', '.join(of)}" if of else ""

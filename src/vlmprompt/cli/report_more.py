"""What `report` shows of classes and of calibration, from what was said of each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmprompt.cli import output
from vlmprompt.errors import InputError, UsageError
from vlmprompt.shown import several

if TYPE_CHECKING:
    from vlmprompt.results.details import Details
    from vlmprompt.results.rows import ResultRow

ClassesFlag = Annotated[
    bool, typer.Option("--classes", help="Show each class: accuracy, and what it is most often taken for.")
]
CalibrationFlag = Annotated[
    bool, typer.Option("--calibration", help="Show calibration errors, NLL, Brier score and AURC, not accuracies.")
]
SHOWN_BY = ("terminal", "markdown")
_AGAIN = "measure again: 'vlmprompt evaluate --force'"


def require_one(classes: bool, calibration: bool, written: Mapping[str, Path | None], reporter: str) -> None:
    """Refuse what would have no effect.

    Args:
        written: options of `report` that write files -> what they were given.

    Raises:
        UsageError: says which flags do not go together.
    """
    for flag, given in (("--classes", classes), ("--calibration", calibration)):
        for option in (option for option, path in written.items() if given and path is not None):
            raise UsageError(f"{flag} has no effect with {option}", hint="leave it out: the page shows both")
    if classes and calibration:
        raise UsageError("--classes and --calibration are two tables", hint="ask for one after the other")
    if classes and reporter not in SHOWN_BY:
        raise UsageError(f"--classes has no {reporter} form", hint="--reporter terminal or markdown, or --json")


def of_calibration(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """The rows of calibration metrics.

    Raises:
        InputError: there are none.
    """
    from vlmprompt.results.calibration import CALIBRATION_METRICS

    found = [row for row in rows if row.metric in CALIBRATION_METRICS]
    if not found:
        raise InputError("nothing was measured of how far probabilities can be trusted", hint=_AGAIN)
    return found


def show_classes(stored: Mapping[Path, Sequence[ResultRow]], *, reporter: str, as_json: bool) -> None:
    """Print a table of classes for each cell with accuracies.

    Args:
        stored: results file -> what holds in it.

    Raises:
        InputError: nothing is known of single images.
    """
    from vlmprompt.results.classes import as_records, class_table, once
    from vlmprompt.results.reporters import as_markdown, as_text

    cells = [cell for file, rows in stored.items() for cell in once(_cells(file, rows))]
    if not cells:
        raise InputError("nothing is known of single images, so nothing of classes", hint=_AGAIN)
    shape = as_markdown if reporter == "markdown" else as_text
    text = "" if as_json else "\n\n".join(shape(class_table(row, details)) for row, details in cells)
    output.emit("report", {"classes": as_records(cells)}, as_json=as_json, table=text)


def _cells(file: Path, rows: Sequence[ResultRow]) -> list[tuple[ResultRow, Details]]:
    """Cells with accuracies, each once, with their details; how many have none is said."""
    from vlmprompt.results.details import Details, details_file

    cells: list[tuple[ResultRow, Details]] = []
    lacking = 0
    for row in {row.key: row for row in rows if row.metric == "top1" and row.status == "ok" and not row.of}.values():
        place = details_file(file, row.key)
        if place is None or not place.exists():
            lacking += 1
            continue
        try:
            cells.append((row, Details.read(place)))
        except InputError as error:
            output.warn(error.told)
    if lacking:
        count = several(lacking, f"cell of {file} was", f"cells of {file} were")
        output.warn(f"{count} measured without a file of single images ({_AGAIN})")
    return [(row, details) for row, details in cells if details.kind == "classification"]

"""`vlmprompt report`: tables of what was measured before."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmprompt.cli import output
from vlmprompt.cli.names import require
from vlmprompt.cli.options import JsonFlag, ReporterOption, RootOption, RunsDirOption
from vlmprompt.cli.report_more import CalibrationFlag, ClassesFlag, of_calibration, require_one, show_classes
from vlmprompt.cli.report_page import HtmlOption, require_page, write_page
from vlmprompt.cli.rows import emit_rows
from vlmprompt.errors import InputError

if TYPE_CHECKING:
    from vlmprompt.results.rows import ResultRow

# The runner's name for it; importing the runner would import torch, and a table needs none.
RESULTS_FILE = "results.jsonl"
_NEXT = "measure a run with 'vlmprompt evaluate'; a sweep's results are in its own folder: 'vlmprompt report sweep'"


def register(app: typer.Typer) -> None:
    """Add `report`."""
    app.command("report")(report)


def report(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...", help="Results files, or folders of runs or of a sweep; default: --runs-dir."
        ),
    ] = None,
    reporter: ReporterOption = "terminal",
    classes: ClassesFlag = False,
    calibration: CalibrationFlag = False,
    html: HtmlOption = None,
    as_json: JsonFlag = False,
    runs_dir: RunsDirOption = Path("runs"),
    root: RootOption = None,
) -> None:
    """Show stored results as tables; measures nothing. 'vlmprompt evaluate' and 'sweep' store them."""
    require(reporter=reporter)
    require_one(classes, calibration, html, reporter)
    require_page(html)
    places = sources or [runs_dir]
    stored = _stored(file for source in places for file in _files(source))
    if classes:
        show_classes(stored, reporter=reporter, as_json=as_json)
        return
    rows = [row for own in stored.values() for row in own]
    rows = of_calibration(rows) if calibration else rows
    if html is None:
        emit_rows("report", rows, reporter=reporter, as_json=as_json)
        return
    error = write_page(html, stored, places, root)
    emit_rows("report", rows, reporter=reporter, as_json=as_json, error=error, page=html)


def _files(source: Path) -> list[Path]:
    """The results files that a path stands for: itself, its own, or those of the folders in it."""
    if source.is_file():
        return [source]
    own = source / RESULTS_FILE
    files = [own] if own.exists() else sorted(source.glob(f"*/{RESULTS_FILE}"))
    if not files:
        what = "holds no results" if source.exists() else "does not exist"
        raise InputError(f"{source} {what}", hint=_NEXT)
    return files


def _stored(files: Iterable[Path]) -> dict[Path, list[ResultRow]]:
    """What still holds, file by file: two of them may hold runs of one name."""
    from vlmprompt.results.store import ResultStore, current

    stored: dict[Path, list[ResultRow]] = {}
    for file in files:
        if file in stored:
            continue
        loaded = ResultStore(file).read()
        if loaded.warning:
            output.warn(loaded.warning)
        stored[file] = current(loaded.rows)
    return stored

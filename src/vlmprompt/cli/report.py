"""`vlmprompt report`: tables of what was measured before."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmprompt.cli import output
from vlmprompt.cli.names import require
from vlmprompt.cli.options import JsonFlag, ReporterOption, RootOption, RunsDirOption
from vlmprompt.cli.report_figures import FiguresOption, FormatOption, require_figures, write_figures
from vlmprompt.cli.report_more import CalibrationFlag, ClassesFlag, of_calibration, require_one, show_classes
from vlmprompt.cli.report_page import HtmlOption, require_page, write_page
from vlmprompt.cli.rows import emit_rows
from vlmprompt.collector import paused
from vlmprompt.errors import InputError, UsageError

if TYPE_CHECKING:
    from vlmprompt.results.rows import ResultRow

# The runner's name for it; importing the runner would import torch, and a table needs none.
RESULTS_FILE = "results.jsonl"
DEFAULT_REPORTER, LATEX = "terminal", "latex"
_NEXT = "measure a run with 'vlmprompt evaluate'; a sweep's results are in its own folder: 'vlmprompt report sweep'"


def register(app: typer.Typer) -> None:
    """Add `report`."""
    app.command("report")(paused()(report))


def report(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...", help="Results files, or folders of runs or of a sweep; default: --runs-dir."
        ),
    ] = None,
    reporter: ReporterOption = DEFAULT_REPORTER,
    latex: Annotated[bool, typer.Option("--latex", help="The same as --reporter latex.")] = False,
    classes: ClassesFlag = False,
    calibration: CalibrationFlag = False,
    html: HtmlOption = None,
    figures: FiguresOption = None,
    figure_format: FormatOption = None,
    as_json: JsonFlag = False,
    runs_dir: RunsDirOption = Path("runs"),
    root: RootOption = None,
) -> None:
    """Show stored results as tables; measures nothing. 'vlmprompt evaluate' and 'sweep' store them."""
    reporter = _reporter(reporter, latex)
    require(reporter=reporter)
    require_one(classes, calibration, {"--html": html, "--figures": figures}, reporter)
    require_page(html)
    require_figures(figures, figure_format)
    places = sources or [runs_dir]
    stored = _stored(file for source in places for file in _files(source))
    if classes:
        show_classes(stored, reporter=reporter, as_json=as_json)
        return
    rows = [row for own in stored.values() for row in own]
    rows = of_calibration(rows) if calibration else rows
    error = None if html is None else write_page(html, stored, places, root)
    made: dict[str, Any] = {} if html is None else {"page": html}
    if figures is not None:
        made["figures"], lacking = write_figures(figures, figure_format, stored, places)
        error = error or lacking
    emit_rows("report", rows, reporter=reporter, as_json=as_json, error=error, **made)


def _reporter(named: str, latex: bool) -> str:
    """The reporter that was asked for.

    Raises:
        UsageError: two were.
    """
    if latex and named not in (DEFAULT_REPORTER, LATEX):
        raise UsageError(f"--latex and --reporter {named} exclude each other", hint="leave one of them out")
    return LATEX if latex else named


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

"""`vlmprompt report`: tables of what was measured before."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmprompt.cli import output
from vlmprompt.cli.names import require
from vlmprompt.cli.options import JsonFlag, ReporterOption, RunsDirOption
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
    as_json: JsonFlag = False,
    runs_dir: RunsDirOption = Path("runs"),
) -> None:
    """Show stored results as tables; measures nothing. 'vlmprompt evaluate' and 'sweep' store them."""
    require(reporter=reporter)
    rows = _rows(file for source in sources or [runs_dir] for file in _files(source))
    emit_rows("report", rows, reporter=reporter, as_json=as_json)


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


def _rows(files: Iterable[Path]) -> list[ResultRow]:
    """What still holds, file by file: two of them may hold runs of one name."""
    from vlmprompt.results.store import ResultStore, current

    rows: list[ResultRow] = []
    for file in dict.fromkeys(files):
        loaded = ResultStore(file).read()
        if loaded.warning:
            output.warn(loaded.warning)
        rows += current(loaded.rows)
    return rows

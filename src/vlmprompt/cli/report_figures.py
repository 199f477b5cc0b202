"""`vlmprompt report --figures`: the figures of the page as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmprompt.cli import output
from vlmprompt.cli.progress import CliProgress
from vlmprompt.errors import IncompleteError, InputError, UsageError, did_you_mean

if TYPE_CHECKING:
    from vlmprompt.results.rows import ResultRow

FORMATS = ("svg", "pdf", "png")  # as `report.drawing` has them, which is not needed to refuse another one
_KEEP = "'vlmprompt evaluate RUN --force' measures again and keeps what was said of each image"
FiguresOption = Annotated[
    Path | None,
    typer.Option("--figures", metavar="DIR", help="Also write the figures of the page, each into a file of its own."),
]
FormatOption = Annotated[
    str | None, typer.Option("--figure-format", metavar="FORMAT", help="Of these files: svg (default), pdf or png.")
]


def require_figures(folder: Path | None, kind: str | None) -> None:
    """Refuse what cannot be meant; asked before anything is read.

    Raises:
        UsageError: there is no such format, or nothing that would have it.
        InputError: a file is in the folder's place.
    """
    if kind is not None and kind not in FORMATS:
        raise UsageError(f"unknown format of figures {kind!r}", hint=did_you_mean(kind, FORMATS))
    if folder is None and kind is not None:
        raise UsageError("--figure-format is for --figures", hint="name a folder: --figures figures")
    if folder is not None and folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is no folder", hint="name another one: --figures DIR")


def write_figures(
    folder: Path,
    kind: str | None,
    stored: Mapping[Path, Sequence[ResultRow]],
    sources: Sequence[Path],
) -> tuple[list[Path], IncompleteError | None]:
    """Write the figures and say where they are.

    Returns:
        The files, and the error for what had to be left out, if anything.

    Raises:
        InputError: one cannot be written.
    """
    from vlmprompt.report.figures import write_figures
    from vlmprompt.report.loading import load, unmeasured

    loaded = load(stored, beside=unmeasured(sources, stored))
    try:
        files = write_figures(loaded.runs, folder, kind or FORMATS[0])
    except InputError as error:  # its next step is that of a run
        raise InputError(
            error.message, hint="free space or change the permissions there, or name another DIR"
        ) from error
    if files:
        CliProgress().message(f"figures: {len(files)} files in {folder}")
    else:
        output.warn(f"no figures: nothing of what is stored can be drawn; {_KEEP}")
    left_out = list(dict.fromkeys(loaded.left_out))
    if not left_out:
        return files, None
    return files, IncompleteError(f"figures were drawn without what cannot be read: {'; '.join(left_out[:3])}")

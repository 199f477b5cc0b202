"""`vlmprompt report --html`: the page, and what must not be lost to it."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmprompt.cli.progress import CliProgress
from vlmprompt.errors import IncompleteError, InputError

if TYPE_CHECKING:
    from vlmprompt.results.rows import ResultRow

# As `report.page` has it, which would import jinja2 and NumPy.
MARK = "<!-- made by vlmprompt report, which replaces it -->"
_BEGINNING = 200  # bytes
_OBJECTS = 100_000  # new ones, until those that nobody needs are looked for
HtmlOption = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Also write one page with everything that is stored.")
]


def require_page(file: Path | None) -> None:
    """Refuse to replace what is no page of ours; asked before anything is read.

    Raises:
        InputError: something else is there.
    """
    if file is None or not file.exists():
        return
    if file.is_dir():
        raise InputError(f"{file} is a folder", hint=f"name a file, such as --html {file / 'report.html'}")
    if not file.is_file():
        raise InputError(f"{file} is no file that could be replaced", hint="name another one")
    with file.open("rb") as opened:
        beginning = opened.read(_BEGINNING)
    if beginning and MARK.encode() not in beginning:
        raise InputError(
            f"{file} was not made by 'vlmprompt report --html', and would be lost",
            hint="move it away, or name another file",
        )


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """Drawing makes a great many objects and hardly any garbage: to look for it as often as usual takes long."""
    usual = gc.get_threshold()
    gc.set_threshold(_OBJECTS, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def write_page(
    file: Path, stored: Mapping[Path, Sequence[ResultRow]], sources: Sequence[Path], root: Path | None
) -> IncompleteError | None:
    """Write the page and say where it is; gives the error for what had to be left out, if anything.

    Raises:
        InputError: there is nothing to show, or the file cannot be written.
    """
    from vlmprompt.atomic import write_atomic
    from vlmprompt.report.loading import load, unmeasured
    from vlmprompt.report.page import page

    with _seldom_collected():
        loaded = load(stored, beside=unmeasured(sources, stored), root=root)
        if not loaded.runs:
            raise InputError("there are no results to make a page of", hint="measure a run with 'vlmprompt evaluate'")
        content = page(loaded).encode()
    write_atomic(file, content, hint="free space or change the permissions there, or name another file with --html")
    CliProgress().message(f"page: {file} ({len(content) / 1e6:.2f} MB)")
    if not loaded.left_out:
        return None
    first, *others = dict.fromkeys(loaded.left_out)
    what = f"{len(others) + 1} things that cannot be used; the first" if others else "1 thing that cannot be used"
    return IncompleteError(f"the page was written without {what}: {first}", hint="the page itself says so at its top")

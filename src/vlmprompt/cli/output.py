"""What a command prints: tables for people, or one JSON document; and errors, always on stderr.

The document is `{"schema": 1, "command", "ok", "data", "warnings", "plugin_failures"}`, on failure with
`"error": {"code", "message", "hint"}`. While a command runs under `--json`, `main` sends everything else
that writes to stdout to stderr, so that the document stands alone whatever a library prints. Texts are shown by
`vlmprompt.shown`, so that nothing from outside steers the terminal.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from vlmprompt import shown, signals
from vlmprompt.errors import ExitCode, Interrupted, VlmPromptError, message_of

if TYPE_CHECKING:
    from vlmprompt.cli.streams import Shown

SCHEMA = 1
START = 60  # characters by which a repeated warning is known again
GAP = 2  # blanks between the columns of a table


@dataclass
class Document:
    """The state of the one document that a process prints."""

    warnings: list[str] = field(default_factory=list)
    met: Counter[str] = field(default_factory=Counter)  # how often each of them was
    written: bool = False
    command: str = ""  # known once the arguments are read
    arguments: Sequence[str] = ()
    stream: TextIO | Shown | None = None  # the true stdout while sys.stdout is redirected


@dataclass(frozen=True)
class Table:
    """Rows to show; on a narrow terminal columns wrap, the first one only where no other has room to give.

    Words of the heads stay whole.
    """

    columns: Sequence[str]
    rows: Iterable[Sequence[object]]
    title: str | None = None


_document = Document()


def begin(stream: TextIO | Shown | None = None) -> Document:
    """Start afresh, as each process (and each test that calls `main`) does."""
    global _document
    _document = Document(stream=stream)
    return _document


def running(command: str, arguments: Sequence[str] = ()) -> None:
    """Say what runs, for a document that is written when it ends before its time, and with which arguments."""
    _document.command, _document.arguments = command, tuple(arguments)


def arguments() -> Sequence[str]:
    """Those of the command line, program and flags that may stand anywhere left out."""
    return _document.arguments


def warn(text: str) -> None:
    """Say something on stderr that also goes into the document's `warnings`; once, however often it is met."""
    _document.met[text] += 1
    if text in _document.warnings:
        return
    _document.warnings.append(text)
    say("warning", text, "yellow")


def count_repeated() -> None:
    """At the end: how often what was said once was met."""
    for text, times in _document.met.items():
        if times > 1:
            start = text if len(text) <= START else f"{text[:START]}..."
            say("warning", f"{times} times: {start}", "yellow")


def say(label: str, text: str, colour: str | None = None) -> None:
    """One labelled line on stderr."""
    head = f"{label}:"
    if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        head = typer.style(head, fg=colour, bold=True)
    print(head, shown.line(text), file=sys.stderr, flush=True)


def emit(
    command: str,
    data: Mapping[str, Any],
    *,
    as_json: bool,
    table: Table | str | Sequence[Table | str] | None = None,
    error: VlmPromptError | None = None,
) -> None:
    """Print a command's result: the document under `--json`, else the tables and texts.

    Args:
        command: the command's full name, such as "methods list".
        data: what goes under `data`; paths and pydantic models are converted.
        table: what people see.
        error: the command did its work but parts failed: the document says `ok: false`, keeps `data`,
            and the error is raised afterwards for its exit code.
    """
    if as_json:
        write_document(command, data, error)
    else:
        for part in [table] if isinstance(table, Table | str) else table or ():
            _show(part)
    if error is not None:
        raise error


def write_document(command: str, data: Mapping[str, Any] | None, error: BaseException | None = None) -> None:
    """Write the JSON document, unless this process has written one."""
    if _document.written:
        return
    _document.written = True
    name = command or _document.command
    document: dict[str, Any] = {"schema": SCHEMA, "command": name, "ok": error is None, "data": data}
    document |= {"warnings": _document.warnings, "plugin_failures": _plugin_failures()}
    if error is not None:
        document["error"] = describe(error)
    stream = _document.stream or sys.stdout
    stream.write(json.dumps(document, indent=2, allow_nan=False, default=_plain) + "\n")
    stream.flush()


def describe(error: BaseException) -> dict[str, Any]:
    """An error as the document shows it: exit code, message, hint."""
    if isinstance(error, VlmPromptError):
        return {"code": exit_code(error), "message": error.message, "hint": error.hint}
    return {"code": int(ExitCode.BUG), "message": bug_line(error), "hint": None}


def exit_code(error: VlmPromptError) -> int:
    """The code that a command ends with: of its kind, and where a signal came, of that signal."""
    return signals.exit_code() if isinstance(error, Interrupted) else int(error.exit_code)


def bug_line(error: BaseException) -> str:
    """An error that nobody expected."""
    return f"{type(error).__name__}: {message_of(error)}"


def _plugin_failures() -> list[dict[str, Any]]:
    from vlmprompt.plugins import loaded_host

    host = loaded_host()
    return [] if host is None else [failure.public() for failure in host.failures]


def _plain(value: object) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, frozenset | set):
        return sorted(value)
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"{type(value).__name__} has no JSON form")
    return dump(mode="json")


def _show(part: Table | str) -> None:
    if isinstance(part, str):
        print(shown.block(part))
        return
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    # A real terminal decides on colours; the text is captured because rich pads lines with blanks.
    console = Console(width=_width(), highlight=False)
    table = RichTable(
        box=None,
        pad_edge=False,
        padding=(0, GAP, 0, 0),
        header_style="bold",
    )
    rows = [[Text("" if cell is None else shown.cell(str(cell))) for cell in row] for row in part.rows]
    heads = [Text(shown.cell(column)) for column in part.columns]
    least = [max(map(cell_len, head.plain.split()), default=0) for head in heads]
    first = max((row[0].cell_len for row in rows if row), default=0)
    whole = first + GAP + sum(width + GAP for width in least[1:]) <= console.width
    for i, head in enumerate(heads):
        table.add_column(head, no_wrap=i == 0 and whole, min_width=least[i], overflow="fold")
    for row in rows:
        table.add_row(*row)
    with console.capture() as captured:
        if part.title is not None:  # not by the table, which would break it at its own width, a path in the middle
            console.print(Text(shown.cell(part.title), style="bold"), soft_wrap=True)
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _width() -> int | None:
    """A terminal's or COLUMNS' width; without either (a pipe) lines are as long as they are."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit():
        return None
    return 10_000

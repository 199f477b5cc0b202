"""Result rows as text: tables for a terminal or a Markdown file, long format as CSV or JSON."""

from __future__ import annotations

import io
import json
import os
import sys
import textwrap
from collections.abc import Sequence
from typing import Protocol

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vlmprompt import shown
from vlmprompt.results.rows import PRIVATE, ResultRow
from vlmprompt.results.tables import SummaryTable, summarise

SCHEMA = 1
UNBOUNDED = 10_000


class Reporter(Protocol):
    """What a plugin registers with `register_reporters`: a class without constructor arguments."""

    def render(self, rows: Sequence[ResultRow], *, width: int | None = None) -> str:
        """The rows as text, without a line break at the end.

        Args:
            width: characters a line; None: the terminal's, or unbounded where there is none.
        """


class TerminalReporter:
    """Aligned tables that fit the terminal's width."""

    def render(self, rows: Sequence[ResultRow], *, width: int | None = None) -> str:
        """See `Reporter.render`."""
        columns = width or terminal_width()
        return "\n\n".join(as_text(table, columns) for table in summarise(rows)) or "no results"


class MarkdownReporter:
    """Markdown tables."""

    def render(self, rows: Sequence[ResultRow], *, width: int | None = None) -> str:
        """See `Reporter.render`; the width does not matter."""
        return "\n\n".join(as_markdown(table) for table in summarise(rows)) or "no results"


class CsvReporter:
    """Every row with all its fields, in full precision; `setup` is a JSON object."""

    def render(self, rows: Sequence[ResultRow], *, width: int | None = None) -> str:
        """See `Reporter.render`; the width does not matter."""
        import pandas as pd  # a quarter of a second, which tables for people need not wait for

        columns = [name for name in ResultRow.model_fields if name not in PRIVATE]
        records = [row.public() | {"setup": json.dumps(row.setup, ensure_ascii=False)} for row in rows]
        frame = pd.DataFrame(records, columns=columns)
        integers = dict.fromkeys(("shots", "seed", "suite_version", "n"), "Int64")
        text: str = frame.astype(integers).to_csv(index=False, lineterminator="\n")
        return text.removesuffix("\n")


class JsonReporter:
    """Every row with all its fields, as one JSON document."""

    def render(self, rows: Sequence[ResultRow], *, width: int | None = None) -> str:
        """See `Reporter.render`; the width does not matter."""
        document = {"schema": SCHEMA, "rows": [row.public() for row in rows]}
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)


def terminal_width() -> int:
    """Characters a line: the terminal's or COLUMNS', or unbounded where there is neither."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit():
        return Console().width
    return UNBOUNDED


def as_text(table: SummaryTable, width: int | None = None) -> str:
    """A table for a terminal.

    Args:
        width: characters a line; None: the terminal's, or unbounded where there is none.
    """
    width = width or terminal_width()
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for i, header in enumerate(table.columns):
        words = i < table.labels
        grid.add_column(Text(shown.cell(header)), justify="left" if words else "right", no_wrap=i == 0, overflow="fold")
    for row in (*table.rows, *([table.images] if table.images else [])):
        # Without this blank a cell that must wrap does so before its spread.
        grid.add_row(*(Text(shown.cell(cell.replace("± ", "±"))) for cell in row))
    text = io.StringIO()
    Console(file=text, width=width, color_system=None).print(Padding(grid, (0, 0, 0, 2)))
    lines = [shown.line(table.title), *(line.rstrip() for line in text.getvalue().splitlines())]
    lines += textwrap.wrap(shown.line(table.caption), width)
    # Not wrapped: they hold commands to be copied.
    lines += [f"[{number}] {shown.line(note)}" for number, note in enumerate(table.footnotes, 1)]
    return "\n".join(lines)


def as_markdown(table: SummaryTable) -> str:
    """A table in Markdown, under its title."""
    alignment = ["---" if i < table.labels else "---:" for i in range(len(table.columns))]
    lines = [
        _pipes(cells) for cells in (table.columns, alignment, *table.rows, *([table.images] if table.images else []))
    ]
    notes = [f"\\[{number}\\] {_plain(note)}" for number, note in enumerate(table.footnotes, 1)]
    below = [line for line in [shown.line(table.caption), *notes] if line]
    return "\n\n".join([f"### {_plain(table.title)}", "\n".join(lines), *below])


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def _plain(text: str) -> str:
    """Text that Markdown leaves alone, in one line."""
    text = shown.line(text)
    for sign in "\\|*_<`":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())

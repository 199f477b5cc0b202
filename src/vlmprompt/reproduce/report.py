"""What `vlmprompt reproduce` shows: tables, and below them what a reader must know of the numbers."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from vlmprompt.reproduce.compare import compare
from vlmprompt.reproduce.missing import Present
from vlmprompt.reproduce.recipe import Recipe
from vlmprompt.results.overview import Pick, overview
from vlmprompt.results.reporters import as_markdown, as_text, terminal_width
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.tables import SummaryTable


@dataclass(frozen=True)
class Report:
    """A finished report.

    Attributes:
        lists: heading -> sentences.
        note: one more, or empty.
    """

    tables: tuple[SummaryTable, ...]
    lists: dict[str, list[str]]
    note: str

    def text(self, width: int | None = None) -> str:
        """For a terminal.

        Args:
            width: see `as_text`.
        """
        parts = [as_text(table, width) for table in self.tables]
        below = [[f"{heading}:", *(f"- {line}" for line in lines)] for heading, lines in self.lists.items()]
        below += [[self.note]] if self.note else []
        return "\n\n".join([*parts, *("\n".join(wrapped(lines, width)) for lines in below)])

    def markdown(self) -> str:
        """For a file, with a line break at the end."""
        parts = [as_markdown(table) for table in self.tables]
        parts += ["\n".join([f"{heading}:\n", *(f"- {x}" for x in lines)]) for heading, lines in self.lists.items()]
        return "\n\n".join(parts + ([self.note] if self.note else [])) + "\n"


def report(recipe: Recipe, rows: Sequence[ResultRow], present: Present, waiting: Sequence[str] = ()) -> Report:
    """The report of a recipe whose data sets that are there were measured.

    Args:
        recipe: whole, with what was skipped.
        waiting: what has not been run yet.
    """
    if recipe.compares:
        tables = compare(recipe, rows, present.skipped(recipe))
    else:
        titles = dict.fromkeys(column.table for column in recipe.columns)
        tables = [_overview(recipe, rows, title) for title in titles]
    lists = {
        "Differs from the paper": recipe.departures,
        "Not there": [one.line for one in present.missing],
        "Not run yet": list(waiting),
    }
    return Report(tuple(tables), {heading: lines for heading, lines in lists.items() if lines}, recipe.note)


def wrapped(lines: Sequence[str], width: int | None = None) -> list[str]:
    """Lines of at most a width (None: the terminal's); items of lists go on below their text."""
    columns = width or terminal_width()
    indented = (line.startswith(("- ", " ")) for line in lines)
    return [
        part for line, further in zip(lines, indented, strict=True) for part in _wrap(line, columns, "  " * further)
    ]


def _wrap(line: str, columns: int, indent: str) -> list[str]:
    """Addresses and paths stay whole."""
    wrap = partial(textwrap.wrap, break_on_hyphens=False, break_long_words=False)
    return wrap(line, columns, subsequent_indent=indent) or [""]


def _overview(recipe: Recipe, rows: Sequence[ResultRow], title: str) -> SummaryTable:
    """One of the tables of a recipe without published figures."""
    mine = [column for column in recipe.columns if column.table == title]
    methods = {name for column in mine for name in column.methods}
    shown = [row for row in rows if not methods or row.method in methods]
    picks = [Pick(c.header, c.suite, c.cell, c.metric, c.data, c.shots) for c in mine]
    return overview(shown, picks, title or recipe.title)

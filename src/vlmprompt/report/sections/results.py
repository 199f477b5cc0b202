"""The tables of `vlmprompt report`."""

from __future__ import annotations

from collections.abc import Sequence

from vlmprompt.report.run import ReportRun
from vlmprompt.report.section import Section, Table
from vlmprompt.results.tables import SummaryTable, summarise


def section(runs: Sequence[ReportRun]) -> Section | None:
    """One table for each suite and data set, seeds averaged; below each column, how many images are behind it."""
    tables = summarise(row for run in runs for row in run.rows)
    if not tables:
        return None
    intro = "Methods down, numbers across; the last line says how many images are behind a column."
    return Section("results", "Results", intro, tuple(map(as_table, tables)))


def as_table(table: SummaryTable) -> Table:
    """A summary as a part of the page."""
    return Table(
        table.title,
        table.columns,
        table.rows,
        caption=table.caption,
        labels=table.labels,
        footnotes=table.footnotes,
        footer=table.images,
    )

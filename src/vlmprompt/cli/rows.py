"""Result rows as commands print them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vlmprompt.cli.output import emit, warn
from vlmprompt.errors import VlmPromptError
from vlmprompt.plugins import host

if TYPE_CHECKING:
    from vlmprompt.results.rows import ResultRow


def emit_rows(
    command: str,
    rows: Sequence[ResultRow],
    *,
    reporter: str,
    as_json: bool,
    error: VlmPromptError | None = None,
    **data: Any,
) -> None:
    """Print rows through a reporter, or under `data.rows` of the JSON document.

    Args:
        error: parts of the work failed; raised after the rows are out.
        data: what else the document says.
    """
    if as_json and reporter != "terminal":
        warn(f"--reporter {reporter} has no effect with --json, which has all rows")
    text = None if as_json else host().reporters.get(reporter).load()().render(rows)
    shown = data | ({"rows": [row.public() for row in rows]} if as_json else {})
    emit(command, shown, as_json=as_json, table=text, error=error)

"""The measured part of docs/benchmarks.md, of what runs left: `python -m benchmarks.page bench-out`.

Runs of the same commit on the same kind of machine share a table.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.against import AGAINST, BENCH, HERE, Compared, table
from benchmarks.frame import Mark, Row
from benchmarks.run import markdown

PAGE = HERE / "docs" / "benchmarks.md"
BEGIN, END = "<!-- measured: from here -->", "<!-- measured: to here -->"


def main(arguments: Sequence[str]) -> int:
    """Replace that part of the page."""
    folders = list(map(Path, arguments))
    if not folders or not all(any((folder / name).is_file() for name in (BENCH, AGAINST)) for folder in folders):
        print("name the folders of runs: python -m benchmarks.page bench-out", file=sys.stderr)
        return 2
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), measured(folders)), encoding="utf-8")
    return 0


def replaced(page: str, part: str) -> str:
    """The page with another measured part.

    Raises:
        ValueError: it does not say where that stands.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{part}\n\n{END}{after}"


def measured(folders: Sequence[Path]) -> str:
    """Where and when, the marks, and what another checkout takes, if that was measured, too."""
    marks: dict[str, list[Row]] = defaultdict(list)
    for run in _reports(folders, BENCH):
        marks[_place(run["machine"])] += map(_row, run["rows"])
    beside: dict[str, list[Compared]] = defaultdict(list)
    for run in _reports(folders, AGAINST):
        title = f"Beside commit {run['other']}, in turns, in processor seconds. {_place(run['machine'])}"
        beside[title] += (Compared(**row) for row in run["rows"])
    blocks = [f"{place}\n\n{markdown(rows)}" for place, rows in marks.items()]
    return "\n\n".join(blocks + [f"{title}\n\n{table(rows)}" for title, rows in beside.items()])


def _reports(folders: Sequence[Path], name: str) -> list[Mapping[str, Any]]:
    """Those of that name that the folders have."""
    files = (folder / name for folder in folders)
    return [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]


def _place(machine: Mapping[str, Any]) -> str:
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] != 1)}"
    where = f"{machine['processor']}, {machine['cores']} cores, {threads}"
    versions = f"Python {machine['python']}, torch {machine['torch']}, open_clip {machine['open_clip']}"
    return f"Measured on {machine['date']} at commit {machine['commit']}: {where}; {versions}."


def _row(saved: Mapping[str, Any]) -> Row:
    marks = (Mark(one["name"], one["value"], one["bound"], one["at_least"]) for one in saved["marks"])
    return Row(saved["bench"], saved["case"], saved["figures"], tuple(marks))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

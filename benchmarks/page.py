"""The measured part of docs/benchmarks.md, of what a run left: `python -m benchmarks.page bench-out`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.against import HERE, Compared, table
from benchmarks.frame import Mark, Row
from benchmarks.run import markdown

PAGE = HERE / "docs" / "benchmarks.md"
BEGIN, END = "<!-- measured: from here -->", "<!-- measured: to here -->"


def main(arguments: Sequence[str]) -> int:
    """Replace that part of the page."""
    if len(arguments) != 1 or not (Path(arguments[0]) / "bench.json").is_file():
        print("name the folder of a run: python -m benchmarks.page bench-out", file=sys.stderr)
        return 2
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), measured(Path(arguments[0]))), encoding="utf-8")
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


def measured(folder: Path) -> str:
    """Where and when, the marks, and what another checkout takes, if that was measured, too."""
    bench = json.loads((folder / "bench.json").read_text(encoding="utf-8"))
    blocks = [_place(bench["machine"]), markdown(list(map(_row, bench["rows"])))]
    if (folder / "against.json").is_file():
        against = json.loads((folder / "against.json").read_text(encoding="utf-8"))
        other, machine = against["other"], against["machine"]
        title = f"Beside commit {other}, in turns, in processor seconds. {_place(machine)}"
        blocks += [title, table(Compared(**row) for row in against["rows"])]
    return "\n\n".join(blocks)


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

"""Result rows on disk: one JSON object a line, only ever appended."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from pydantic import ValidationError

from vlmprompt.claims.claim import turn
from vlmprompt.errors import InputError
from vlmprompt.results.rows import ResultRow

# Cell and metric of a row that stands for a whole suite: the training failed, or its cells are not known.
EVERYTHING = "*"


@dataclass(frozen=True)
class Loaded:
    """What a results file holds.

    Attributes:
        rows: the newest row of each key and metric, in order of first appearance.
        warning: what was left out (a torn last line), or None.
        end: the byte after the last whole line.
    """

    rows: tuple[ResultRow, ...]
    warning: str | None = None
    end: int = 0


class ResultStore:
    """A results file. A process that is killed while it writes loses at most the last line.

    Args:
        path: a `.jsonl` file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, rows: Iterable[ResultRow]) -> None:
        """Add rows, all in one write, while no other process does; a torn line that an earlier one left is cut off.

        Raises:
            InputError: the file cannot be written.
        """
        data = "".join(f"{row.model_dump_json()}\n" for row in rows).encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            mine = turn(self.path.parent, "append", f"appending to {self.path}")
            with mine, self.path.open("a+b", buffering=0) as file:
                _cut_torn_line(file)
                _write_all(file, data)
        except OSError as error:
            raise InputError(
                f"cannot write results to {self.path}: {error.strerror}",
                hint="free space there, or choose another folder",
            ) from error

    def read(self, start: int = 0) -> Loaded:
        """The newest row of each key and metric.

        Args:
            start: the byte to begin at, an earlier `Loaded.end`; a file that has become shorter is read from its start.

        Raises:
            InputError: a line other than the last is no result row; its number is named.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return Loaded(())
        except OSError as error:
            raise InputError(f"cannot read results {self.path}: {error.strerror}") from error
        start = start if start <= len(content) else 0
        *lines, rest = content[start:].split(b"\n")
        first = content.count(b"\n", 0, start) + 1
        rows = [self._parse(line, number) for number, line in enumerate(lines, first) if line.strip()]
        newest = {(row.key or i, row.metric): row for i, row in enumerate(rows)}
        torn = f"the last line of {self.path} is incomplete and was left out" if rest else None
        return Loaded(tuple(newest.values()), torn, len(content) - len(rest))

    def _parse(self, line: bytes, number: int) -> ResultRow:
        try:
            return ResultRow.model_validate_json(line)
        except ValidationError as error:
            reason = error.errors(include_url=False)[0]["msg"]
            raise InputError(
                f"line {number} of {self.path} is no result row: {reason}",
                hint="remove that line; the next evaluation measures again what is missing",
            ) from error


def current(rows: Iterable[ResultRow]) -> list[ResultRow]:
    """What still holds, of rows collected over time: the newest of each cell and metric of a run.

    A row gives way to a later one that says the same thing of the same run although its key differs (the
    run was trained again, the suite has a new version); a failure of everything gives way to any later row
    of that run and suite.
    """
    newest: dict[tuple[object, ...], ResultRow] = {}
    for row in rows:
        run = (row.run, row.method, row.dataset, row.backbone, row.shots, row.seed, row.suite)
        newest.pop((*run, EVERYTHING, EVERYTHING), None)
        newest[(*run, row.cell, row.metric)] = row
    return list(newest.values())


def finished(rows: Sequence[ResultRow], metrics: Iterable[str]) -> bool:
    """Whether the stored rows of a unit of work have all its metrics, so that it need not be done again."""
    return {row.metric for row in rows if row.status != "failed"} >= set(metrics)


def _cut_torn_line(file: FileIO) -> None:
    """Drop what follows the last line break: it was never a whole row, and the next one must not join it."""
    if file.seek(0, os.SEEK_END) == 0:
        return
    file.seek(-1, os.SEEK_END)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.readall().rfind(b"\n") + 1)


def _write_all(file: FileIO, data: bytes) -> None:
    """One write; the loop is for a signal, which may cut it short."""
    while data:
        data = data[file.write(data) :]

"""Result rows on disk: one JSON object a line, only ever appended."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from pydantic import ValidationError

from vlmprompt.errors import InputError
from vlmprompt.regular import regular
from vlmprompt.results.rows import ResultRow

# Cell and metric of a row that stands for a whole suite: the training failed, or its cells are not known.
EVERYTHING = "*"


@dataclass(frozen=True)
class Loaded:
    """What a results file holds.

    Attributes:
        rows: the newest row of each key and metric, in order of first appearance.
        warning: what was left out (a torn last line), or None.
    """

    rows: tuple[ResultRow, ...]
    warning: str | None = None


class ResultStore:
    """A results file. A process that is killed while it writes loses at most the last line.

    Args:
        path: a `.jsonl` file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, rows: Iterable[ResultRow]) -> None:
        """Add rows, all in one write; a torn line that an earlier process left is cut off first.

        Raises:
            InputError: the file cannot be written.
        """
        data = "".join(f"{row.model_dump_json()}\n" for row in rows).encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b", buffering=0) as file:
                _cut_torn_line(file)
                _write_all(file, data)
        except OSError as error:
            raise InputError(
                f"cannot write results to {self.path}: {error.strerror}",
                hint="free space there, or choose another folder",
            ) from error

    def read(self) -> Loaded:
        """The newest row of each key and metric.

        Raises:
            InputError: a line other than the last is no result row; its number is named.
        """
        try:
            content = regular(self.path).read_bytes()
        except FileNotFoundError:
            return Loaded(())
        except OSError as error:
            raise InputError(f"cannot read results {self.path}: {error.strerror}") from error
        *lines, rest = content.split(b"\n")
        rows = [self._parse(line, number) for number, line in enumerate(lines, 1) if line.strip()]
        newest = {(row.key or i, row.metric): row for i, row in enumerate(rows)}
        torn = f"the last line of {self.path} is incomplete and was left out" if rest else None
        return Loaded(tuple(newest.values()), torn)

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
    """What still holds, of the rows of one file: the newest of each cell and metric of a run.

    A row gives way to a later one that says the same thing of the same run although its key differs (the
    run was trained again, the suite has a new version). What is said of everything at once gives way to any
    later row of that run and suite, and a failure to one for which other cells were listed: nobody asks for it
    any more.
    """
    newest: dict[tuple[object, ...], ResultRow] = {}
    last: dict[tuple[object, ...], ResultRow] = {}
    for row in rows:
        newest[(*_work(row), row.cell, row.metric)] = last[_work(row)] = row
    return [row for row in newest.values() if _holds(row, last[_work(row)])]


def _work(row: ResultRow) -> tuple[object, ...]:
    return row.run, row.method, row.dataset, row.backbone, row.shots, row.seed, row.suite


def _holds(row: ResultRow, last: ResultRow) -> bool:
    if row.cell == EVERYTHING:
        return row is last
    return row.status != "failed" or row.listing == last.listing


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

"""Result rows on disk: one JSON object a line, only ever appended."""

from __future__ import annotations

import os
from codecs import BOM_UTF8
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from pydantic import ValidationError

from vlmprompt.claims.claim import turn
from vlmprompt.errors import InputError
from vlmprompt.regular import regular
from vlmprompt.results.rows import TEMPERATURE, ResultRow

# Cell and metric of a row that stands for a whole suite: the training failed, or its cells are not known.
EVERYTHING = "*"
ROW_START = b'{"run"'
MOST_SHOWN = 5  # numbers of damaged lines


@dataclass(frozen=True)
class Loaded:
    """What a results file holds.

    Attributes:
        rows: the newest row of each key and metric, in order of first appearance; one that is repeated as it was
            holds anew, and counts as appearing there.
        warning: what was left out (damaged lines, a torn last one), or None.
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
        self._is_ours = False

    def append(self, rows: Iterable[ResultRow]) -> None:
        """Add rows, all of them or none, while no other process does; a torn line that an earlier one left is cut off.

        Raises:
            InputError: the file cannot be written, or holds something else than results (see `read`).
        """
        data = "".join(f"{row.model_dump_json()}\n" for row in rows).encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            mine = turn(self.path.parent, "append", f"appending to {self.path}")
            with mine, self.path.open("a+b", buffering=0) as file:
                if not self._is_ours:
                    self.read()
                _write_all_or_nothing(file, self._end_last_line(file) + data)
            self._is_ours = True
        except OSError as error:
            raise InputError(
                f"cannot write results to {self.path}: {error.strerror}",
                hint="free space there, or choose another folder",
            ) from error

    def read(self, start: int = 0) -> Loaded:
        """The newest row of each key and metric; damaged lines are left out, and named in the warning.

        Args:
            start: the byte to begin at, an earlier `Loaded.end`; a file that has become shorter is read from its start.

        Raises:
            InputError: the file cannot be read, or it holds lines of something else; the first is named.
        """
        try:
            content = regular(self.path).read_bytes()
        except FileNotFoundError:
            return Loaded(())
        except OSError as error:
            raise InputError(f"cannot read results {self.path}: {error.strerror}") from error
        start = start if start <= len(content) else 0
        *lines, rest = content[start:].split(b"\n")
        first = content.count(b"\n", 0, start) + 1
        parsed = {number: self._parse(line, number) for number, line in enumerate(lines, first) if line.strip()}
        last = self._parse(rest, first + len(lines)) if rest else None
        rows = [row for row in (*parsed.values(), last) if row is not None]
        if start == 0:
            self._require_results(rows, lines, rest)
        self._is_ours = True
        newest = _newest(rows)
        warnings = _left_out(self.path, [number for number, row in parsed.items() if row is None])
        if rest and last is None:
            warnings.append(f"the last line of {self.path} is incomplete and was left out")
        return Loaded(tuple(newest.values()), "; ".join(warnings) or None, len(content) - len(rest))

    def _parse(self, line: bytes, number: int) -> ResultRow | None:
        """A line's row; None of one that is damaged."""
        try:
            return ResultRow.model_validate_json(_bare(line))
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            if problem["type"] == "json_invalid":
                return None
            raise InputError(
                f"line {number} of {self.path} is no result row: {problem['msg']}",
                hint="remove that line; the next evaluation measures again what is missing",
            ) from error

    def _require_results(self, rows: Sequence[ResultRow], lines: Sequence[bytes], rest: bytes) -> None:
        """Refuse a file that holds no row, and nothing that could have been one."""
        if not rows and not all(_may_be_torn(line) for line in (*lines, rest) if line.strip()):
            raise InputError(
                f"{self.path} holds no results: its lines are no result rows",
                hint="move it away, or choose another folder",
            )

    def _end_last_line(self, file: FileIO) -> bytes:
        """Cut off a torn last line; gives what a last line lacks that is whole, or was never ours to cut."""
        if file.seek(0, os.SEEK_END) == 0:
            return b""
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return b""
        file.seek(0)
        content = file.readall()
        start = content.rfind(b"\n") + 1
        rest = content[start:]
        if self._parse(rest, 0) is not None or not _may_be_torn(rest):
            return b"\n"
        file.truncate(start)
        return b""


def _newest(rows: Sequence[ResultRow]) -> dict[tuple[object, str], ResultRow]:
    newest: dict[tuple[object, str], ResultRow] = {}
    for i, row in enumerate(rows):
        key = row.key or i, row.metric
        if key in newest and newest[key] == row:
            del newest[key]
        newest[key] = row
    return newest


def current(rows: Iterable[ResultRow]) -> list[ResultRow]:
    """What still holds, of the rows of one file: the newest of each cell and metric of a run.

    A row gives way to a later one that says the same thing of the same run although its key differs (the
    run was trained again, the suite has a new version). What is said of everything at once gives way to any
    later row of that run and suite, and a failure to one for which other cells were listed: nobody asks for it
    any more.
    """
    newest: dict[tuple[tuple[object, ...], str, str], ResultRow] = {}
    last: dict[tuple[object, ...], ResultRow] = {}
    for row in rows:
        work = work_of(row)
        newest[work, row.cell, row.metric] = last[work] = row
    return [row for (work, *_), row in newest.items() if _holds(row, last[work])]


def work_of(row: ResultRow) -> tuple[object, ...]:
    """What a row is about, but for its cell and metric: a run (or what stands beside it) and a suite.

    A run at its temperature is something else than the run as it was trained.
    """
    own = row.run, row.method, row.dataset, row.backbone, row.shots, row.seed, row.suite
    return (*own, TEMPERATURE) if TEMPERATURE in row.setup else own


def _holds(row: ResultRow, last: ResultRow) -> bool:
    if row.cell == EVERYTHING:
        return row is last
    return row.status != "failed" or row.listing == last.listing


def finished(rows: Sequence[ResultRow], metrics: Iterable[str]) -> bool:
    """Whether the stored rows of a unit of work have all its metrics, so that it need not be done again."""
    return {row.metric for row in rows if row.status != "failed"} >= set(metrics)


def _left_out(path: Path, numbers: Sequence[int]) -> list[str]:
    if not numbers:
        return []
    shown = ", ".join(map(str, numbers[:MOST_SHOWN])) + (", ..." if len(numbers) > MOST_SHOWN else "")
    what = (
        f"line {shown} of {path} is damaged and was"
        if len(numbers) == 1
        else f"lines {shown} of {path} are damaged and were"
    )
    return [f"{what} left out; evaluating again measures what is missing"]


def _may_be_torn(line: bytes) -> bool:
    """Whether a damaged line may once have been a row, or the beginning of one."""
    line = _bare(line)
    return line.startswith(ROW_START) or ROW_START.startswith(line)


def _bare(line: bytes) -> bytes:
    """A line without an editor's byte-order mark, and the NUL bytes that a power cut leaves of unfinished writes."""
    return line.strip(b"\0").removeprefix(BOM_UTF8)


def _write_all_or_nothing(file: FileIO, data: bytes) -> None:
    """Rows of one unit of work belong together: with some of them there, it would be measured again beside them."""
    end = file.seek(0, os.SEEK_END)
    try:
        _write_all(file, data)
    except OSError:
        with suppress(OSError):
            file.truncate(end)
        raise


def _write_all(file: FileIO, data: bytes) -> None:
    """One write; the loop is for a signal, which may cut it short."""
    while data:
        data = data[file.write(data) :]

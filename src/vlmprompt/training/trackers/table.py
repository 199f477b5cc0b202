"""`log.csv`: the log as a table, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vlmprompt.atomic import write_atomic
from vlmprompt.training.trackers.contract import Ending, TrackedRun, Tracker, flat

NAME = "log.csv"
# Columns of every log, and their order; others follow in the order in which they first come up.
COLUMNS = ("step", "epoch", "epoch_end", "lr", "loss", "accuracy", "seconds")


class TableTracker(Tracker):
    """A row in log.csv for every line of log.jsonl; a table in a line is several columns (parts.ce).

    Rows are appended, each in one write. With a value that has no column yet, as at an epoch's first end, and when a
    run goes on, the file is made anew of log.jsonl and takes the place of the old one as a whole.
    """

    files = (NAME,)

    def __init__(self) -> None:
        self._run: TrackedRun
        self._columns: tuple[str, ...] = ()
        self._file: int | None = None

    def start(self, run: TrackedRun) -> None:
        """Begin the table with what has been recorded."""
        self._run = run
        self._renew()

    def record(self, record: Mapping[str, Any]) -> None:
        """One more row."""
        row = flat(record)
        if row.keys() <= set(self._columns):
            assert self._file is not None
            os.write(self._file, _text([row], self._columns))
        else:
            self._renew()

    def end(self, ending: Ending, error: str | None) -> None:
        """Nothing more comes."""
        self._close()

    def _renew(self) -> None:
        rows = [flat(record) for record in self._run.records()]
        self._columns = columns_of(rows)
        path = self._run.folder / NAME
        self._close()
        write_atomic(path, table(rows, self._columns), make_folder=False)
        self._file = _opened(path)

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def columns_of(rows: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The columns of a table of these rows."""
    return tuple(dict.fromkeys((*COLUMNS, *(name for row in rows for name in row))))


def table(rows: Iterable[Mapping[str, Any]], columns: tuple[str, ...]) -> bytes:
    """The whole file."""
    return _text([dict(zip(columns, columns, strict=True)), *rows], columns)


def _opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND)


def _text(rows: Iterable[Mapping[str, Any]], columns: tuple[str, ...]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    """Nothing for None, text as it is, all else as in log.jsonl."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)

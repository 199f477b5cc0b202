"""`log.jsonl`: a line for every step and every epoch."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from vlmprompt.atomic import unwritable
from vlmprompt.errors import InputError
from vlmprompt.regular import regular
from vlmprompt.training.checkpoint import AGAIN
from vlmprompt.training.trackers.following import Trackers


class TrainLog:
    """Appends whole lines, each in one write. `seconds` in a line counts time in the loop, resumed parts included.

    Args:
        path: the log.
        keep: lines of it that count; what follows is cut off (a resumed run writes it again).
        trackers: told of every line once it is written, and before a checkpoint.

    Raises:
        InputError: the log cannot be read or written, has fewer lines than `keep`, or one that is none of its own.
    """

    def __init__(self, path: Path, *, keep: int = 0, trackers: Trackers | None = None) -> None:
        self.path = path
        self._trackers = trackers or Trackers()
        self.lines = keep
        kept = self._kept(keep)
        self._before = [self._seconds(line, number) for number, line in enumerate(kept, 1)][-1] if kept else 0.0
        self._start = time.perf_counter()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            os.ftruncate(self._file, sum(len(line) for line in kept))
        except OSError as error:
            raise unwritable(path, error) from error

    @property
    def seconds(self) -> float:
        """Time in the loop."""
        return self._before + time.perf_counter() - self._start

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line.

        Raises:
            InputError: it cannot be written.
        """
        record = {**record, "seconds": round(self.seconds, 4)}
        line = json.dumps(record, allow_nan=False) + "\n"
        try:
            os.write(self._file, line.encode())
        except OSError as error:
            raise unwritable(self.path, error) from error
        self.lines += 1
        self._trackers.record(record)

    def flush(self) -> None:
        """Wait until the lines are on disk: a checkpoint must not be ahead of its log.

        Raises:
            InputError: they cannot be written.
        """
        self._trackers.flush()
        try:
            os.fsync(self._file)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def gone(self) -> bool:
        """Whether the log is no longer in its place: the run's folder was removed, renamed or replaced."""
        try:
            return not os.path.samestat(self.path.stat(), os.fstat(self._file))
        except (FileNotFoundError, NotADirectoryError):
            return True

    def content(self) -> bytes:
        """All lines, also of a log that is gone."""
        os.lseek(self._file, 0, os.SEEK_SET)
        with os.fdopen(os.dup(self._file), "rb") as file:
            return file.read()

    def records(self) -> list[dict[str, Any]]:
        """What all lines say."""
        return [json.loads(line) for line in self.content().splitlines()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._file)

    def _kept(self, keep: int) -> list[bytes]:
        if not keep:
            return []
        try:
            lines = regular(self.path).read_bytes().splitlines(keepends=True) if self.path.exists() else []
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror}", hint=AGAIN) from error
        if len(lines) < keep:
            raise InputError(f"{self.path} has {len(lines)} lines, the checkpoint was made at line {keep}", hint=AGAIN)
        return lines[:keep]

    def _seconds(self, line: bytes, number: int) -> float:
        try:
            return float(json.loads(line)["seconds"])
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise InputError(f"line {number} of {self.path} is damaged: no line of a training's", hint=AGAIN) from error

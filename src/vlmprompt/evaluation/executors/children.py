"""A worker as its driver sees it: a process, the pipes to it, and what it is at."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import IO, Protocol

from vlmprompt.evaluation.executors.contract import Event, SweepTask
from vlmprompt.evaluation.executors.told import Retold

COMMAND = [sys.executable, "-m", "vlmprompt.evaluation.executors.process"]


class ChildProcess(Protocol):
    """The part of `subprocess.Popen[str]` that is used."""

    stdin: IO[str] | None
    stdout: IO[str] | None
    stderr: IO[str] | None
    pid: int

    def wait(self) -> int: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


Start = Callable[[Mapping[str, str]], ChildProcess]
# Of a worker: an event, a line that it printed, or None: it has ended.
Said = Event | str | None


def start_process(environment: Mapping[str, str]) -> ChildProcess:
    """Start a worker. Ctrl-C on the terminal is for the driver alone, so it is in a session of its own."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        COMMAND, stdin=pipe, stdout=pipe, stderr=pipe, env=dict(environment), encoding="utf-8", start_new_session=True
    )


class Child:
    """A worker.

    Attributes:
        number: its place among the workers, from 0.
        task: what it is at.
        ready: it has begun to listen.
        last_line: that it printed.

    Args:
        heard: gets what it says.
    """

    def __init__(self, number: int, process: ChildProcess, heard: queue.Queue[tuple[Child, Said]]) -> None:
        self.number = number
        self.task: SweepTask | None = None
        self.ready = False
        self.last_line = ""
        self.retold: Retold | None = None
        self._process, self._heard = process, heard
        self._printed = threading.Thread(target=self._read_lines, daemon=True)
        self._printed.start()
        self._events = threading.Thread(target=self._read_events, daemon=True)
        self._events.start()

    @property
    def name(self) -> str:
        """For people."""
        return f"worker {self.number + 1} (process {self._process.pid})"

    def give(self, task: SweepTask, retold: Retold) -> None:
        """Let it carry out a task; if it is gone by now, its end will be heard."""
        self.task, self.retold = task, retold
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(json.dumps(asdict(task)) + "\n")
            self._process.stdin.flush()

    def take_back(self) -> SweepTask | None:
        """What it was at, which is no longer told."""
        task, self.task = self.task, None
        if self.retold is not None:
            self.retold.close()
        return task

    def end(self) -> str:
        """Wait for its end, and say how it came."""
        code = self._process.wait()
        self._events.join()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with suppress(OSError):  # of what could not be written to the dead
                    stream.close()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def dismiss(self) -> None:
        """Have it stop; what it is at is saved."""
        with suppress(OSError):
            self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        with suppress(OSError):
            self._process.kill()

    def _read_events(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith("\n"):  # a last one may be torn
                self._heard.put((self, json.loads(line)))
        self._printed.join()  # what it said at last comes before its end
        self._heard.put((self, None))

    def _read_lines(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._heard.put((self, line.rstrip()))


def surroundings(number: int, devices: list[str], threads: int) -> dict[str, str]:
    """The environment of a worker: its share of the threads, and a device of its own where there are several.

    Args:
        number: its place among the workers, from 0.
        devices: as CUDA_VISIBLE_DEVICES names them.
    """
    own = {"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} if len(devices) > 1 else {}
    shares = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return {**os.environ, **shares, "PYTHONUNBUFFERED": "1", **own}

"""Command lines in processes of their own, watched by what they write.

Every process is forked from one that has imported everything: 200 of them would else spend their time on that.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vlmprompt.cli.main import main
from vlmprompt.data.images import read_image
from vlmprompt.data.load import load_dataset

POLL_S = 0.001
HEAVY = ("open_clip", "sklearn.metrics", "sklearn.model_selection", "accelerate", "vlmprompt.methods.linear_probe")
IMPORTED = ("evaluation.runner", "evaluation.sweep", "reproduce.report", "reproduce.run", "training.run", "builtin")


def warm_up(data: str) -> None:
    """Import what the commands need, and draw the test pictures; no thread may be started before a fork."""
    for name in IMPORTED:
        importlib.import_module(f"vlmprompt.{name}")
    for name in (
        "open_clip",
        "sklearn.metrics",
        "sklearn.model_selection",
        "accelerate",
        "vlmprompt.methods.linear_probe",
    ):
        importlib.import_module(name)
    for record in load_dataset(data).split("test"):
        read_image(record)  # a drawn one is kept


@dataclass(frozen=True)
class Ended:
    """A process that has ended.

    Attributes:
        code: its exit code, or minus the signal that killed it.
        output: stdout.
        errors: stderr.
    """

    code: int
    output: str
    errors: str


class Process:
    """A command line that runs.

    Args:
        arguments: of `vlmprompt`.
        notes: a file name for its output, without ending.
    """

    def __init__(self, arguments: list[str], notes: Path) -> None:
        self._out, self._err = notes.with_suffix(".out"), notes.with_suffix(".err")
        self.pid = os.fork()
        if self.pid == 0:
            self._run(arguments)

    def kill(self) -> None:
        """SIGKILL: no handler, no clean-up."""
        os.kill(self.pid, signal.SIGKILL)

    def ended(self) -> bool:
        """Whether it has ended; does not wait."""
        found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return found is not None

    def wait(self) -> Ended:
        """Its end."""
        _, status = os.waitpid(self.pid, 0)
        output, errors = (path.read_text(encoding="utf-8") if path.exists() else "" for path in (self._out, self._err))
        return Ended(os.waitstatus_to_exitcode(status), output, errors)

    def _run(self, arguments: list[str]) -> None:
        """In the child: never returns."""
        code = 1
        try:
            for stream, path in ((sys.stdout, self._out), (sys.stderr, self._err)):
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
                os.dup2(handle, stream.fileno())
            # Trials share nothing; where a flag names a store, it is stronger.
            os.environ |= {"COLUMNS": "200", "VLMPROMPT_FEATURE_CACHE": "off"}
            code = main(arguments)
            sys.stdout.flush()
        finally:
            os._exit(code)


def events(folder: Path) -> int:
    """Lines of logs and results below a folder: what a process has got done, as others can see it."""
    total = 0
    for path, _, files in os.walk(folder):  # which says nothing of what goes away meanwhile
        for name in {"log.jsonl", "results.jsonl", "checkpoint.safetensors"} & set(files):
            with suppress(FileNotFoundError):
                total += Path(path, name).read_bytes().count(b"\n") if name.endswith("l") else 1
    return total


def watch(process: Process, folder: Path, reached: Callable[[int, float], bool]) -> bool:
    """Wait until a moment is reached, or the process ends; whether it was reached.

    Args:
        reached: of the events that were seen since the start, and the seconds.
    """
    seen, last, start = 0, events(folder), time.monotonic()
    while not process.ended():
        now = events(folder)
        seen, last = seen + max(0, now - last), now  # a log that is cut back to its checkpoint counts for nothing
        if reached(seen, time.monotonic() - start):
            return True
        time.sleep(POLL_S)
    return False

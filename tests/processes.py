"""Processes that begin with torch, open_clip and ourselves imported.

A fresh interpreter takes five seconds to import them. Here one server imports them once, and each process is a fork of
it: a real process, with a number, an environment, signals and an end of its own. Tests of what is imported when start a
fresh interpreter instead.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import chdir, suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

PRELOADED = "tests.preloaded"
ROOT = Path(__file__).parents[1]


class Process:
    """A function in a process of its own; its return value is the exit code. Looks like `subprocess.Popen`.

    Args:
        function: importable by its name, as are its arguments.
        env: environment variables; folders of PYTHONPATH come first in sys.path.
    """

    def __init__(
        self, function: Callable[..., object], *args: Any, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._outputs = tuple(Path(self._folder.name) / name for name in ("stdout", "stderr"))
        surroundings = (self._outputs, dict(os.environ if env is None else env), cwd or Path.cwd())
        self._process = _context().Process(target=_run, args=(function, args, *surroundings), daemon=True)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """None: it runs; -N: signal N ended it."""
        return self._process.exitcode

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process.pid is not None
        return self._process.pid

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def join(self) -> None:
        """Wait for its end; what it wrote is of no interest."""
        self._process.join()
        self._folder.cleanup()

    def communicate(self) -> tuple[str, str]:
        """Wait for its end; gives what it wrote to stdout and stderr. To be called once."""
        with self._folder:
            self._process.join()
            out, err = (path.read_text(encoding="utf-8") for path in self._outputs)
        return out, err


class Stepwise(Process):
    """A process that waits after each step until it may go on; the function's last argument is for `reporting`."""

    def __init__(self, function: Callable[..., object], *args: Any) -> None:
        self._steps, theirs = multiprocessing.Pipe()
        super().__init__(function, *args, theirs)
        theirs.close()

    def step(self) -> None:
        """Wait until it has done a step."""
        try:
            self._steps.recv()
        except EOFError:
            raise AssertionError(f"it ended: {self.communicate()[1]}") from None

    def go_on(self) -> None:
        """It may do one more step."""
        self._steps.send("go on")

    def run_free(self) -> None:
        """It waits no more."""
        self._steps.close()


def reporting(steps: Connection | None) -> Callable[[int], None]:
    """What a process does after a step: tell its parent, and go on when it may."""

    def report(step: int) -> None:
        if steps is not None:
            with suppress(EOFError, OSError):
                steps.send(step)
                steps.recv()

    return report


def stop_server() -> None:
    """Nothing of it outlives the tests."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # there is no public way


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    with chdir(ROOT):  # from where the server finds the module, if it is not running yet
        forkserver.ensure_running()
    return context


def _run(
    function: Callable[..., object],
    args: tuple[Any, ...],
    outputs: tuple[Path, ...],
    env: Mapping[str, str],
    cwd: Path,
) -> None:
    for number, path in enumerate(outputs, 1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    assert PRELOADED in sys.modules  # the server says nothing of what it cannot import
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path[:0] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    sys.exit(function(*args))

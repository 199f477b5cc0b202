"""Workers of the executor `local` for little sweeps: processes that know the made-up methods and have tiny towers."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

import open_clip

from tests.processes import Process
from tests.training.material import Breaking, Exploding, Noisy, registered
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.evaluation import resources
from vlmprompt.evaluation.executors.process import Channel, serve
from vlmprompt.testing import tiny_clip

METHODS = {"noisy": Noisy, "breaking": Breaking, "exploding": Exploding}


class Worker:
    """A worker, see `children.ChildProcess`.

    Args:
        method: of METHODS.
        deadly: `breaking` kills the process in its third step, unless there is this file, which it makes before; where
            its folder is not there, in every first step.
    """

    def __init__(self, method: str, environment: Mapping[str, str], deadly: Path | None) -> None:
        (tasks, stdin), (stdout, events), (stderr, printed) = (multiprocessing.Pipe(duplex=False) for _ in range(3))
        self._process = Process(_serve, method, deadly, tasks, events, printed, env=environment)
        for theirs in (tasks, events, printed):
            theirs.close()
        self.stdin: IO[str] | None = _opened(stdin, "w")
        self.stdout: IO[str] | None = _opened(stdout, "r")
        self.stderr: IO[str] | None = _opened(stderr, "r")
        self.pid = self._process.pid

    def wait(self) -> int:
        self._process.join()
        assert self._process.returncode is not None
        return self._process.returncode

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._process.kill()


class Start:
    """Starts workers, and remembers them."""

    def __init__(self, method: str = "noisy", deadly: Path | None = None) -> None:
        self.method, self.deadly = method, deadly
        self.workers: list[Worker] = []

    def __call__(self, environment: Mapping[str, str]) -> Worker:
        self.workers.append(Worker(self.method, environment, self.deadly))
        return self.workers[-1]


def _opened(end: Connection, mode: str) -> IO[str]:
    file = os.fdopen(os.dup(end.fileno()), mode)
    end.close()
    return file


def _serve(method: str, deadly: Path | None, tasks: Connection, events: Connection, printed: Connection) -> int:
    for standard in (1, 2):
        os.dup2(printed.fileno(), standard)
    backbone = Backbone.from_model(tiny_clip(), open_clip.SimpleTokenizer(), name="tiny-vit")
    resources.load_backbone = lambda *args, **kwargs: backbone

    def die() -> None:
        if deadly is not None and not deadly.exists():
            if deadly.parent.is_dir():
                deadly.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    Breaking.act = staticmethod(die)
    if deadly is not None and not deadly.parent.is_dir():
        Breaking.steps = 2
    with registered(method, METHODS[method]):
        return serve(Channel(_opened(tasks, "r"), _opened(events, "w")))

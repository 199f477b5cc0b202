"""A worker as a process: `python -m vlmprompt.evaluation.executors.process`.

It reads tasks from standard input and writes events to standard output, a JSON object a line. Whatever else would be
printed there, by whomever, goes to standard error.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import warnings
from contextlib import suppress
from dataclasses import asdict
from typing import Any, TextIO

from vlmprompt import signals
from vlmprompt.errors import Interrupted
from vlmprompt.evaluation.executors.contract import Event, SweepTask
from vlmprompt.evaluation.executors.worker import SweepWorker


class Channel:
    """The pipes to and from the driver.

    Args:
        tasks: a task a line.
        events: an event a line.
    """

    def __init__(self, tasks: TextIO, events: TextIO) -> None:
        self.tasks: queue.Queue[SweepTask | None] = queue.Queue()
        self._events = events
        self._turn = threading.Lock()
        threading.Thread(target=self._listen, args=(tasks,), name="tasks", daemon=True).start()

    def send(self, event: Event) -> None:
        """Tell the driver; one that is gone hears nothing, and that is no failure of the run."""
        with self._turn, suppress(OSError, ValueError):
            self._events.write(json.dumps(event) + "\n")
            self._events.flush()

    def _listen(self, tasks: TextIO) -> None:
        for line in tasks:
            self.tasks.put(SweepTask(**json.loads(line)))
        # The driver needs no more, or it is gone, and nobody waits for what is being done.
        self.tasks.put(None)
        os.kill(os.getpid(), signal.SIGTERM)


def serve(channel: Channel) -> int:
    """Carry out tasks until there are no more; gives the exit code."""
    worker = SweepWorker(channel.send)

    def warn(message: Warning | str, *_: object, **__: object) -> None:
        worker.progress.warn(" ".join(str(message).split()))

    with signals.stopping(bool), warnings.catch_warnings():
        warnings.showwarning = warn
        try:
            channel.send({"kind": "ready"})
            while (task := channel.tasks.get()) is not None:
                outcome: dict[str, Any] = asdict(worker.do(task))
                channel.send({"kind": "outcome", **outcome})
        except (Interrupted, KeyboardInterrupt):
            return signals.exit_code()
    return 0


def main() -> int:
    """The process."""
    import torch

    events, tasks = os.fdopen(os.dup(1), "w", encoding="utf-8"), os.fdopen(os.dup(0), encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or torch.get_num_threads()))
    return serve(Channel(tasks, events))


if __name__ == "__main__":
    sys.exit(main())

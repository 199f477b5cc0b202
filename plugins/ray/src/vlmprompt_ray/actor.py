"""What runs on the nodes: an actor that carries out tasks, and says meanwhile what it does."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from vlmprompt.api import Interrupted, SweepTask, SweepWorker

Event = Mapping[str, Any]


class Actor:
    """Carries out one task at a time; towers, data and features stay loaded for the next."""

    def __init__(self) -> None:
        self._events: queue.Queue[Event | None] = queue.Queue()
        self._worker = SweepWorker(self._events.put)

    def carry_out(self, name: str, spec: Mapping[str, Any]) -> Iterator[Event]:
        """Yield the events of a task, and its outcome as the last."""
        done = threading.Thread(target=self._do, args=(SweepTask(name, spec),), daemon=True)
        done.start()
        yield {"kind": "ready"}
        while (event := self._events.get()) is not None:
            yield event
        done.join()

    def stop(self) -> None:
        """Have the task end at its next step; what it has is saved."""
        self._worker.stop()

    def _do(self, task: SweepTask) -> None:
        try:
            self._events.put({"kind": "outcome", **asdict(self._worker.do(task))})
        except (Interrupted, KeyboardInterrupt):
            pass
        except BaseException as error:
            self._events.put({"kind": "bug", "text": f"{type(error).__name__}: {error}"})
            raise
        finally:
            self._events.put(None)

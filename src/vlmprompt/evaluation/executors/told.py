"""Progress over a pipe: what a worker reports becomes events, and events become progress of the driver."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import count

from vlmprompt.evaluation.executors.contract import Event, Send
from vlmprompt.progress import Progress, Task


class Relayed:
    """The progress of a worker: everything is sent.

    Attributes:
        stopping: set from another thread; the next step that is reported raises KeyboardInterrupt.
    """

    def __init__(self, send: Send) -> None:
        self.stopping = False
        self._send = send
        self._numbers = count()

    @contextmanager
    def task(self, description: str, total: int | None, *, unit: str = "it") -> Iterator[Task]:
        """See `Progress.task`."""
        number = next(self._numbers)
        self._send({"kind": "begin", "number": number, "description": description, "total": total, "unit": unit})
        try:
            yield _RelayedTask(self, number)
        finally:
            self._send({"kind": "end", "number": number})

    def message(self, text: str) -> None:
        """See `Progress.message`."""
        self._send({"kind": "message", "text": text})

    def warn(self, text: str) -> None:
        """See `Progress.warn`."""
        self._send({"kind": "warn", "text": text})

    def advance(self, number: int, amount: int, fields: dict[str, float | str]) -> None:
        """What a task reports."""
        self._send({"kind": "advance", "number": number, "amount": amount, "fields": fields})
        if self.stopping:
            raise KeyboardInterrupt


class _RelayedTask:
    def __init__(self, progress: Relayed, number: int) -> None:
        self._progress, self._number = progress, number

    def advance(self, amount: int = 1, **fields: float | str) -> None:
        self._progress.advance(self._number, amount, fields)


def briefly(names: Sequence[str]) -> dict[str, str]:
    """Each name without the words that all of them have, so that a line has room for what is done; as it is where they
    would not differ, or nothing would be left."""
    words = {name: name.split("-") for name in names}
    common = set.intersection(*map(set, words.values())) if words else set()
    brief = {name: "-".join(word for word in own if word not in common) for name, own in words.items()}
    return brief if all(brief.values()) and len(set(brief.values())) == len(brief) else {name: name for name in brief}


class Retold:
    """Tells a driver's progress what a worker says, each line with the name of what the worker is at.

    Args:
        name: of the task.
    """

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._name = progress, name
        self._open: dict[int, tuple[AbstractContextManager[Task], Task]] = {}

    def tell(self, event: Event) -> None:
        """Tell one event; those of other kinds are nothing to tell."""
        match event["kind"]:
            case "message":
                self._progress.message(f"{self._name}: {event['text']}")
            case "warn":
                self._progress.warn(f"{self._name}: {event['text']}")
            case "begin":
                context = self._progress.task(
                    f"{self._name}: {event['description']}", event["total"], unit=event["unit"]
                )
                self._open[event["number"]] = context, context.__enter__()
            case "advance":
                self._open[event["number"]][1].advance(event["amount"], **event["fields"])
            case "end":
                context, _ = self._open.pop(event["number"])
                context.__exit__(None, None, None)

    def close(self) -> None:
        """End what a worker that is gone has left open."""
        for context, _ in reversed(self._open.values()):
            context.__exit__(None, None, None)
        self._open.clear()

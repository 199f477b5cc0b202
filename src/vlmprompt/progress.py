"""How long work reports itself, without knowing who listens. The CLI shows bars; a library call is silent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One running piece of work."""

    def advance(self, amount: int = 1, **fields: float | str) -> None:
        """Report progress; `fields` (loss, accuracy, ...) are shown beside the bar."""


class Progress(Protocol):
    """Where progress, messages and warnings go."""

    def task(self, description: str, total: int | None, *, unit: str = "it") -> AbstractContextManager[Task]:
        """Open a task; use as a context manager."""

    def message(self, text: str) -> None:
        """A line for the user."""

    def warn(self, text: str) -> None:
        """A line for the user that also ends up in the `warnings` of a JSON document."""


class _SilentTask:
    def advance(self, amount: int = 1, **fields: float | str) -> None:
        return None


class SilentProgress:
    """Shows nothing; keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    @contextmanager
    def task(self, description: str, total: int | None, *, unit: str = "it") -> Iterator[Task]:
        """A task that nobody watches."""
        yield _SilentTask()

    def message(self, text: str) -> None:
        """Dropped."""

    def warn(self, text: str) -> None:
        """Kept in `warnings`."""
        self.warnings.append(text)


def duration(seconds: float) -> str:
    """Seconds as `4.2 s`, `3:07` or `2:03:07`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

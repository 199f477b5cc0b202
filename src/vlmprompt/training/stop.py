"""A signal to stop as a wish that the loop meets between two steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from vlmprompt import signals


class StopRequest:
    """Whether somebody asked to stop.

    Attributes:
        requested: set by the first signal; a second one stops at once.
    """

    def __init__(self) -> None:
        self.requested = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        signals.note(number)
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn signals to stop into a `StopRequest` for a while; without effect outside the main thread."""
    stop = StopRequest()
    with signals.handled_by(stop.handle):
        yield stop

"""Time that passes only as a test says."""

from __future__ import annotations

import asyncio


class Clock:
    """Stands in for `time` and `asyncio` where questions are asked: a sleep moves the clock and takes no time.

    Attributes:
        now: seconds.
        slept: how long each sleep was.
        allowed: how long each request was given.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.allowed: list[float] = []

    def monotonic(self) -> float:
        """As in `time`."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """As in `asyncio`."""
        self.slept.append(seconds)
        self.now += seconds

    def timeout(self, seconds: float) -> asyncio.Timeout:
        """As in `asyncio`, but the time is over when `run_out` says so."""
        self.allowed.append(seconds)
        self._loop, self._timer = asyncio.get_running_loop(), asyncio.timeout(None)
        return self._timer

    def run_out(self) -> None:
        """The time given to the last request is over; said by any thread."""
        self._loop.call_soon_threadsafe(self._timer.reschedule, 0.0)

"""Signals that ask a process to stop: Ctrl-C, SIGTERM, and SIGHUP where there is such a thing.

One that was ignored when the process began (`nohup`, a job in the background) stays ignored.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], None]
OTHERS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
NUMBERS = (signal.SIGINT, *OTHERS)
_noted: list[int] = []
_process = os.getpid()  # the one that `stopping` is for


def note(number: int) -> None:
    """Remember that a signal came."""
    _noted.append(number)


def exit_code() -> int:
    """128 + the number of the first signal that was noted, as shells have it; else 130, for Ctrl-C."""
    return 128 + (_noted[0] if _noted else signal.SIGINT)


@contextmanager
def handled_by(handler: Handler, numbers: Sequence[int] = NUMBERS) -> Iterator[None]:
    """Let a function handle signals for a while; without effect outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    # None: a handler that is not Python's, which could not be put back.
    heeded = {number: was for number, was in before.items() if was not in (signal.SIG_IGN, None)}
    for number in heeded:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, was in heeded.items():
            signal.signal(number, was)


@contextmanager
def stopping() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does at that moment; outermost, forget those that came before."""
    global _process
    if not any(signal.getsignal(number) is _stop for number in OTHERS):
        _noted.clear()
    _process = os.getpid()
    with handled_by(_stop, OTHERS):
        yield


def leave_alone() -> None:
    """From now on signals end the process at once, and silently: it is ending anyway."""
    for number in NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _stop(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _process:  # a fork of it ends as it would have without us
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    note(number)
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):  # asyncio, for one, has its own
        handler(signal.SIGINT, frame)
    else:
        raise KeyboardInterrupt

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
# Of `stopping`: its process, and what it says at last.
_process = os.getpid()
_farewell: Callable[[], object] = bool


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
def stopping(farewell: Callable[[], object]) -> Iterator[None]:
    """Let each of them raise KeyboardInterrupt for a while; outermost, forget those that came before.

    In the midst of an import the process ends at once, as native libraries do not survive an exception there: they
    abort, or turn it into another one. Nothing of ours is half done then.

    Args:
        farewell: what is said in that case.
    """
    global _farewell, _process
    if not any(signal.getsignal(number) is _stop for number in NUMBERS):
        _noted.clear()
    before, _farewell, _process = _farewell, farewell, os.getpid()
    try:
        with handled_by(_stop):
            yield
    finally:
        _farewell = before


@contextmanager
def as_python_does() -> Iterator[None]:
    """Let Ctrl-C do what it does by default; asyncio takes it over only then, and ends its tasks in order."""
    ours = signal.getsignal(signal.SIGINT) is _stop
    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, _stop)


def finish() -> None:
    """From now on signals are without effect: the process ends by itself, as soon as it has said why."""
    for number in OTHERS:
        signal.signal(number, signal.SIG_IGN)


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
    if _imports(frame):
        _farewell()
        os._exit(exit_code())
    taken = signal.getsignal(signal.SIGINT)
    if callable(taken) and taken is not _stop:
        taken(signal.SIGINT, frame)
    else:
        raise KeyboardInterrupt


def _imports(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_globals.get("__name__") != "importlib._bootstrap":
        frame = frame.f_back
    return frame is not None

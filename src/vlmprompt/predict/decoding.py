"""Pictures read ahead by threads while the tower is at work; they come out in the order in which they went in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from vlmprompt.errors import InputError

Thing = TypeVar("Thing")
Read = TypeVar("Read")


def read_ahead(
    things: Iterator[Thing], read: Callable[[Thing], Read], *, workers: int, ahead: int
) -> Iterator[tuple[Thing, Read | InputError]]:
    """Each thing with what is read of it, or with the error that says why not.

    What comes out does not depend on `workers`: Pillow lets go of Python's lock while it decodes and
    resizes, and threads share memory with the tower.

    Args:
        things: asked for one at a time, always by the caller's thread.
        workers: threads; 0: each is read when it is asked for.
        ahead: things that are read, or being read, before they are asked for.
    """

    def attempt(thing: Thing) -> Read | InputError:
        try:
            return read(thing)
        except InputError as error:
            return error

    if not workers:
        for thing in things:
            yield thing, attempt(thing)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="reads pictures")
    waiting: deque[tuple[Thing, Future[Read | InputError]]] = deque()
    try:
        for thing in things:
            waiting.append((thing, pool.submit(attempt, thing)))
            if len(waiting) > ahead:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)

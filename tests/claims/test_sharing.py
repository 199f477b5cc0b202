"""Work that is shared: free things first, then those that others had."""

from __future__ import annotations

import pytest

from tests.training.material import Hooked
from vlmprompt.claims.claim import BusyError
from vlmprompt.claims.owner import Owner
from vlmprompt.claims.work import FIRST_WAIT_S, LONGEST_WAIT_S, take

SOMEBODY = Owner("cluster-7", "another", 77, "", "2026-01-02 03:04:05+00:00", "x")


class World:
    """Things that others hold for a number of attempts."""

    def __init__(self, **held: int) -> None:
        self.held, self.log = held, []
        self.waits: list[float] = []

    def attempt(self, item: str) -> None:
        self.held[item] = self.held.get(item, 0) - 1
        if self.held[item] >= 0:
            raise BusyError(f"run {item}", SOMEBODY)
        self.log.append(item)

    def go(self, items: str, **more: bool) -> Hooked:
        progress = Hooked()
        assert list(take(items, self.attempt, progress, sleep=self.waits.append, **more)) == self.log
        return progress


def test_alone_everything_is_done_in_order() -> None:
    world = World()
    assert world.go("abc").messages == []
    assert (world.log, world.waits) == (list("abc"), [])


def test_what_is_held_comes_last_and_is_waited_for() -> None:
    world = World(a=3, c=1)
    progress = world.go("abcd")
    assert world.log == list("bdca")
    assert progress.messages == ["waiting for run a: process 77 on cluster-7 since 2026-01-02 03:04:05+00:00 has it"]
    assert world.waits == [FIRST_WAIT_S]


def test_waits_grow_and_start_over_when_something_was_done() -> None:
    world = World(a=9, b=3)
    world.go("ab")
    grown = [min(FIRST_WAIT_S * 2**i, LONGEST_WAIT_S) for i in range(9)]
    assert world.waits == [*grown[:3], *grown[:5]]


def test_whoever_does_not_wait_is_told() -> None:
    world = World(b=9)
    with pytest.raises(BusyError, match="run b is in use by process 77"):
        world.go("abc", patient=False)
    assert (world.log, world.waits) == (list("ac"), [])


def test_an_error_ends_it() -> None:
    def fail(item: str) -> None:
        raise ValueError(item)

    with pytest.raises(ValueError, match="a"):
        list(take("ab", fail, Hooked()))

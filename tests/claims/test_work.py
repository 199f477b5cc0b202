"""Work that is shared: free things first, then those that others had."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.material import Hooked
from vlmprompt.claims import work
from vlmprompt.claims.claim import BusyError
from vlmprompt.claims.owner import Owner
from vlmprompt.claims.work import FIRST_WAIT_S, LONGEST_WAIT_S, shared, take

SOMEBODY = Owner("cluster-7", "another", 77, "", "2026-01-02 03:04:05+00:00", "x")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited; without waiting."""
    seconds: list[float] = []
    monkeypatch.setattr(work.time, "sleep", seconds.append)
    return seconds


class World:
    """Things that others hold for a number of attempts."""

    def __init__(self, **held: int) -> None:
        self.held = held
        self.log: list[str] = []

    def attempt(self, item: str) -> None:
        self.held[item] = self.held.get(item, 0) - 1
        if self.held[item] >= 0:
            raise BusyError(f"run {item}", SOMEBODY)
        self.log.append(item)

    def go(self, items: str, **more: bool) -> Hooked:
        progress = Hooked()
        assert list(take(items, self.attempt, progress, **more)) == self.log
        return progress


def test_alone_everything_is_done_in_order(waits: list[float]) -> None:
    world = World()
    assert world.go("abc").messages == []
    assert (world.log, waits) == (list("abc"), [])


def test_what_is_held_comes_last_and_is_waited_for(waits: list[float]) -> None:
    world = World(a=3, c=1)
    progress = world.go("abcd")
    assert world.log == list("bdca")
    assert progress.messages == ["waiting for run a: process 77 on cluster-7 since 2026-01-02 03:04:05+00:00 has it"]
    assert waits == [FIRST_WAIT_S]


def test_waits_grow_and_start_over_when_something_was_done(waits: list[float]) -> None:
    world = World(a=9, b=3)
    world.go("ab")
    grown = [min(FIRST_WAIT_S * 2**i, LONGEST_WAIT_S) for i in range(9)]
    assert waits == [*grown[:3], *grown[:5]]


def test_whoever_does_not_wait_is_told(waits: list[float]) -> None:
    world = World(b=9)
    with pytest.raises(BusyError, match="run b is in use by process 77"):
        world.go("abc", patient=False)
    assert (world.log, waits) == (list("ac"), [])


def test_an_error_ends_it() -> None:
    def fail(item: str) -> None:
        raise ValueError(item)

    with pytest.raises(ValueError, match="a"):
        list(take("ab", fail, Hooked()))


# -- alone or beside others ---------------------------------------------------------------------------
def test_beside_others_nobody_waits(tmp_path: Path) -> None:
    progress = Hooked()
    with shared(tmp_path, progress, alone=False), shared(tmp_path, progress, alone=False):
        assert list(tmp_path.iterdir()) == []
    assert progress.messages == []


@pytest.mark.parametrize("alone", [False, True])
def test_who_is_alone_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: bool) -> None:
    progress = Hooked()
    with ExitStack() as stack:
        stack.enter_context(shared(tmp_path, progress, alone=True))
        monkeypatch.setattr(work.time, "sleep", lambda seconds: stack.close())
        with shared(tmp_path, progress, alone=alone):
            pass
    assert [text.split(":")[0] for text in progress.messages] == [f"waiting for all of {tmp_path}"]
    assert list(tmp_path.iterdir()) == []


def test_the_dead_are_not_waited_for(tmp_path: Path) -> None:
    gone = replace(Owner.here(), began="1")
    for name in ("alone", "run"):
        (tmp_path / ".claims" / name).mkdir(parents=True)
        (tmp_path / ".claims" / name / gone.token).write_text(gone.dump())
    progress = Hooked()
    with shared(tmp_path, progress, alone=False), shared(tmp_path, progress, alone=True):
        pass
    assert progress.messages == []

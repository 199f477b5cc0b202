"""Parts that share a time, by a clock that the test sets."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.budget import Budget, Line, Part
from benchmarks.frame import Mark, Row


class Clock:
    """Shows what it was set to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def part(clock: Clock, name: str, share: float, *seconds: float, fails: bool = False, bound: float = 1) -> Part:
    """One that takes so many seconds for each of its rows."""

    def rows() -> Iterator[Row]:
        for i, taken in enumerate(seconds):
            clock.now += taken
            yield Row(name, str(i), {"s": taken}, (Mark("value", 1, bound),))
        if fails:
            raise RuntimeError("out of memory")

    return Part(name, share, rows)


def said(lines: list[Line]) -> list[tuple[str, str]]:
    return [(line.part, line.status) for line in lines]


def test_every_row_is_measured_where_there_is_time() -> None:
    clock = Clock()
    budget = Budget(60, clock)
    seen: list[Line] = []
    lines = budget.measure([part(clock, "a", 20, 5, 6), part(clock, "b", 30, 7, bound=2)], seen.append)
    assert said(lines) == [("a", "ok"), ("a", "ok"), ("b", "missed")] and lines == seen
    assert budget.left == 60 - 18 and [line.row.case for line in lines if line.row] == ["0", "1", "0"]


def test_a_failure_keeps_what_came_before_and_the_others_go_on() -> None:
    clock = Clock()
    lines = Budget(60, clock).measure([part(clock, "a", 20, 5, fails=True), part(clock, "b", 20, 5)])
    assert said(lines) == [("a", "ok"), ("a", "failed"), ("b", "ok")]
    assert lines[1].reason == "RuntimeError: out of memory" and lines[1].row is None


def test_a_part_is_asked_for_no_more_than_its_share() -> None:
    clock = Clock()
    lines = Budget(60, clock).measure([part(clock, "a", 10, 6, 6, 6), part(clock, "b", 40, 1)])
    assert said(lines) == [("a", "ok"), ("a", "ok"), ("a", "skipped"), ("b", "ok")]
    assert lines[2].reason == "anything further: its 10 s are over" and clock.now == 100 + 12 + 1


def test_a_part_that_does_not_fit_is_skipped_and_a_smaller_one_measured() -> None:
    clock = Clock()
    parts = [part(clock, "late", 10, 45), part(clock, "large", 20, 1), part(clock, "small", 15, 1)]
    lines = Budget(60, clock).measure(parts)
    assert said(lines) == [("late", "ok"), ("late", "skipped"), ("large", "skipped"), ("small", "ok")]
    assert lines[2].reason == "needs 20 s, 15 s are left"

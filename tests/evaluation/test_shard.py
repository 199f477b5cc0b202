"""Parts of a grid: every run in exactly one, of whatever size the groups are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmprompt.errors import UsageError
from vlmprompt.evaluation.shard import Shard


@given(sizes=st.lists(st.integers(1, 6), max_size=12), count=st.integers(1, 7), before=st.integers(0, 20))
def test_every_group_is_in_one_part(sizes: list[int], count: int, before: int) -> None:
    groups = [[(g, i) for i in range(size)] for g, size in enumerate(sizes)]
    for turned in (0, before):
        parts = [Shard(index, count).after(turned).of(groups) for index in range(1, count + 1)]
        assert sorted(group for part in parts for group in part) == groups
        assert all(part == sorted(part) for part in parts)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, [[0, 1, 2, 3]]), (2, [[0, 2], [1, 3]]), (3, [[0], [1], [2, 3]]), (7, [[0], [1], [2], [3], [], [], []])],
)
def test_large_groups_are_dealt_first(count: int, expected: list[list[int]]) -> None:
    """Groups of 3, 3, 2 and 2 runs."""
    groups = [[g] * size for g, size in enumerate((3, 3, 2, 2))]
    parts = [[group[0] for group in Shard(index, count).of(groups)] for index in range(1, count + 1)]
    assert parts == expected


def test_small_grids_in_a_row_are_dealt_in_turn() -> None:
    """Four grids of one run each, two parts: two each."""
    taken = [[g for g in range(4) if Shard(index, 2).after(g).of([[g]])] for index in (1, 2)]
    assert taken == [[0, 2], [1, 3]]


@pytest.mark.parametrize(
    ("first", "step", "task", "index"),
    [(None, None, "3", 3), ("0", "1", "0", 1), ("0", "1", "3", 4), ("10", "10", "30", 3)],
)
def test_an_array_begins_anywhere(first: str | None, step: str | None, task: str, index: int) -> None:
    env = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": "4"}
    env |= {"SLURM_ARRAY_TASK_MIN": first} if first else {}
    env |= {"SLURM_ARRAY_TASK_STEP": step} if step else {}
    assert Shard.parse("slurm", env) == Shard(index, 4)


@pytest.mark.parametrize(
    ("text", "env", "message"),
    [
        ("2", {}, "'2' is not I/N"),
        ("0/3", {}, "there is no part 0 of 3"),
        ("4/3", {}, "there is no part 4 of 3"),
        ("1/0", {}, "there is no part 1 of 0"),
        ("slurm", {}, "this is no task of a SLURM array"),
        ("slurm", {"SLURM_ARRAY_TASK_ID": "1"}, "cannot read"),
        ("slurm", {"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_COUNT": "4"}, "there is no part 9 of 4"),
    ],
)
def test_what_is_no_part(text: str, env: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Shard.parse(text, env)

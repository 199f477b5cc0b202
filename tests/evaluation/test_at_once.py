"""How many runs a sweep does at once where nobody says."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import ClassVar, NoReturn

import pytest

from vlmprompt.cli.sweep_shared import Elsewhere, SharingFlags
from vlmprompt.errors import InputError, UsageError
from vlmprompt.evaluation.executors import at_once, options
from vlmprompt.evaluation.executors.at_once import VARIABLE, memory_bytes, runs_at_once
from vlmprompt.evaluation.executors.contract import SweepTask
from vlmprompt.evaluation.executors.local import LocalExecutor
from vlmprompt.evaluation.executors.local_config import LocalConfig
from vlmprompt.progress import SilentProgress


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores, much memory, no GPU, and nobody says."""
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.setattr(at_once, "memory_bytes", lambda: 64e9)


@pytest.mark.parametrize(
    ("left", "threads", "memory", "expected"),
    [
        (9, 8, 64e9, 4),  # never more
        (3, 8, 64e9, 3),  # one a run
        (9, 2, 64e9, 2),  # one a core
        (9, 8, 9e9, 2),  # one for 4 GB
        (9, 8, 1e9, 1),
        (9, 8, math.inf, 4),
        (1, 8, 64e9, 1),
        (0, 8, 64e9, 1),
    ],
)
def test_by_runs_cores_and_memory(
    left: int, threads: int, memory: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    monkeypatch.setattr(at_once, "memory_bytes", lambda: memory)
    assert runs_at_once(left, "auto") == runs_at_once(left, "cpu") == expected


def test_on_a_gpu_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert (runs_at_once(9, "auto"), runs_at_once(9, "cuda:0"), runs_at_once(9, "cpu")) == (1, 1, 4)
    with pytest.raises(InputError, match="'cuda:1' is not available"):
        runs_at_once(9, "cuda:1")


@pytest.mark.parametrize(("devices", "expected"), [(0, 4), (3, 3)])
def test_the_executor_local_has_as_many_and_one_a_cuda_device(
    devices: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Heard(SilentProgress):
        said: ClassVar[list[str]] = []

        def message(self, text: str) -> None:
            self.said.append(text)

    def start(environment: Mapping[str, str]) -> NoReturn:
        raise InputError("no process is needed to see how many there would be")

    monkeypatch.setattr("torch.cuda.device_count", lambda: devices)
    tasks = [SweepTask(f"run {n}", {"plan": {"runtime": {"device": "auto"}}}) for n in range(9)]
    with LocalExecutor(LocalConfig(), start=start) as executor, pytest.raises(InputError, match="no process"):
        list(executor.run(tasks, Heard()))
    assert Heard.said[0].startswith(f"{expected} runs at once")


@pytest.mark.parametrize(("said", "expected"), [("1", 1), ("2", 2), ("200", 9)])
def test_a_variable_decides(said: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, said)
    assert runs_at_once(9, "auto") == expected


@pytest.mark.parametrize("said", ["", "0", "two", "1.5", "-1", "257"])
def test_a_variable_that_is_no_number(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, said)
    with pytest.raises(UsageError, match=f"variable {VARIABLE} is '{said}', which is no number of runs from 1 to 256"):
        runs_at_once(9, "auto")


def test_memory_is_the_machines_or_the_containers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(at_once, "CONTAINER_LIMIT", limit)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}.__getitem__)
    assert memory_bytes() == 4_096_000
    limit.write_text("max\n")
    assert memory_bytes() == 4_096_000
    limit.write_text("1000000\n")
    assert memory_bytes() == 1_000_000
    monkeypatch.delattr(os, "sysconf")
    assert memory_bytes() == 1_000_000
    limit.unlink()
    assert memory_bytes() == math.inf


@pytest.mark.parametrize(
    ("flags", "force", "jobs"),
    [
        ({}, False, 4),
        ({"jobs": 2}, False, 2),
        ({"jobs": 1}, False, None),
        ({"jobs": 1}, True, None),
        ({}, True, None),
        ({"worker": True}, False, None),
        ({"shard": "1/2"}, False, None),
        ({"executor": "local"}, False, 0),
    ],
)
def test_flags(flags: dict[str, object], force: bool, jobs: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def make(name: str, given: dict[str, int]) -> nullcontext[str]:
        made.append((name, given.get("jobs", 0)))
        return nullcontext(name)

    monkeypatch.setattr(options, "make_executor", make)
    others: Elsewhere = SharingFlags(**flags).elsewhere(force=force)  # type: ignore[arg-type]
    with others.started("cpu", lambda: 9):
        assert made == ([] if jobs is None else [("local", jobs)])

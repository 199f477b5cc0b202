"""What a benchmark gives back, and how things are timed."""

from __future__ import annotations

import gc
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

# Says by which clock things are timed where a benchmark does not say so itself: "processor", or the wall's.
CLOCK_VARIABLE = "BENCH_CLOCK"
CLOCK = time.process_time if os.environ.get(CLOCK_VARIABLE) == "processor" else time.perf_counter


@dataclass(frozen=True)
class Mark:
    """A number that must reach a bound."""

    name: str
    value: float
    bound: float
    at_least: bool = True

    @property
    def reached(self) -> bool:
        """Whether it does; NaN does not."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        return f"{self.name} {self.value:.3g} ({sign} {self.bound:g}: {'reached' if self.reached else 'MISSED'})"


@dataclass(frozen=True)
class Row:
    """One line of the report.

    Attributes:
        bench: name of the benchmark.
        case: what was run.
        figures: numbers worth reading, by name with unit.
        marks: what must hold; empty for a row that only informs.
    """

    bench: str
    case: str
    figures: Mapping[str, float]
    marks: tuple[Mark, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether all marks are reached."""
        return all(mark.reached for mark in self.marks)


def side_by_side(repeats: Mapping[Callable[[], object], int], clock: Callable[[], float] = CLOCK) -> list[float]:
    """Median seconds of each function, their repeats taken in turns. The caller has run each once before.

    Taking turns lets a machine's slow minutes fall on both sides of a ratio.

    Args:
        repeats: function -> how often to time it.
        clock: `time.process_time` counts the work of this process alone, whatever else the machine does.
    """
    seconds: dict[Callable[[], object], list[float]] = {run: [] for run in repeats}
    rounds = min(repeats.values())
    for turn in range(rounds):
        for run, count in repeats.items():
            for _ in range(count * (turn + 1) // rounds - count * turn // rounds):
                seconds[run].append(timed(run, clock))
    return [statistics.median(times) for times in seconds.values()]


def timed(run: Callable[[], object], clock: Callable[[], float] = CLOCK) -> float:
    """Seconds of one call, garbage collected before it."""
    gc.collect()
    start = clock()
    run()
    return clock() - start


def in_empty_folder(command: Sequence[str], env: Mapping[str, str] = os.environ) -> tuple[float, float, str]:
    """Wall and processor seconds of a Python command in an empty folder with empty caches, and its standard error."""
    with tempfile.TemporaryDirectory() as folder:
        own = {**env, "VLMPROMPT_CACHE_DIR": str(Path(folder) / "cache")}
        cpu, start = children_clock(), time.perf_counter()
        done = subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env=own,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=True,
        )
        return time.perf_counter() - start, children_clock() - cpu, done.stderr


def children_clock() -> float:
    """Processor seconds of the processes that this one has started and waited for: a clock of commands."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def matmul(size: int = 2048) -> Callable[[], object]:
    """A square fp32 matrix product of `2 * size**3` FLOPs: the rate that this machine's arithmetic can reach."""
    a, b, out = (torch.ones(size, size) for _ in range(3))
    return lambda: torch.mm(a, b, out=out)


def relative_error(value: torch.Tensor, reference: torch.Tensor) -> float:
    """Largest difference over the largest reference value."""
    return float((value - reference).abs().max() / reference.abs().max())

"""Four local workers on a grid of short runs: what sharing costs in CPU time, beside one process that does it all.

Both use a feature cache of their own, empty at the start. A bare worker, that imports and ends, is measured as well:
the imports of each process are not counted. CPU times are those of processes and their children, so a busy machine
disturbs them less than it does seconds; runs must be as many and results the same, or the ratio says nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.frame import Mark, Row, children_clock, timed
from vlmprompt.evaluation.runner import RESULTS_FILE
from vlmprompt.results.store import ResultStore

JOBS, SEEDS = 4, 16
MOST_TIMES = 1.1
SWEEP = ["--method", "coop", "--data", "doodles", "--shots", "4", "--set", "max_steps=60", "--set", "views=1"]
IMPORTS = "import vlmprompt.cli.sweep, vlmprompt.evaluation.sweep, open_clip, accelerate"


def measure(repeats: int = 1) -> list[Row]:
    """Medians of CPU seconds of whole commands."""
    bare = median(cpu_of([sys.executable, "-c", IMPORTS]) for _ in range(3))
    alone, shared = [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as place:
            one, four = Path(place) / "one", Path(place) / "four"
            alone.append(_sweep(one, SEEDS) - bare)
            shared.append(_sweep(four, SEEDS, "--jobs", str(JOBS)) - (1 + JOBS) * bare)
            _require_same(one, four)
    one_s, four_s = median(alone), median(shared)
    figures = {
        "one process, CPU s": one_s,
        f"{JOBS} workers, CPU s": four_s,
        "imports of a process, CPU s": bare,
        "more a run, CPU s": (four_s - one_s) / SEEDS,
    }
    marks = (Mark("times one process", four_s / one_s, MOST_TIMES, at_least=False),)
    return [Row("workers", f"{SEEDS} runs of coop, 4 shots, 60 steps", figures, marks)]


def _sweep(out: Path, seeds: int, *more: str) -> float:
    given = [part for seed in range(1, seeds + 1) for part in ("--seed", str(seed))]
    where = ["--out", str(out), "--feature-cache", str(out) + "-features", "--workers", "0", "--device", "cpu"]
    return cpu_of([sys.executable, "-m", "vlmprompt", "sweep", *SWEEP, *given, *where, "--no-reference", *more])


def cpu_of(command: Sequence[str]) -> float:
    """CPU seconds of a command, one run at a time unless it says so, and of the processes that it waited for."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "VLMPROMPT_JOBS": "1"}
    return timed(partial(subprocess.run, command, check=True, capture_output=True, env=env), children_clock)


def _require_same(one: Path, four: Path) -> None:
    """The same numbers of as many runs."""
    found = [
        sorted((row.run, row.metric, row.value or 0.0) for row in ResultStore(out / RESULTS_FILE).read().rows)
        for out in (one, four)
    ]
    if found[0] != found[1] or len({run for run, *_ in found[0]}) != SEEDS:
        raise AssertionError("the two sweeps have other results")

"""A sweep of three methods and three seeds with the store of image features, beside the same sweep without it.

The store is empty at the start of the first sweep with it, and filled by that for the second, as it is for whoever
tries other settings. CPU times are those of whole commands, without the imports of a process, which all have; results
must be the same, or the ratio says nothing.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.frame import Mark, Row
from benchmarks.workers import IMPORTS, cpu_of
from vlmprompt.evaluation.runner import RESULTS_FILE
from vlmprompt.results.store import ResultStore

METHODS, SEEDS, STEPS = ("coop", "tip_adapter", "lp_plus_plus"), (1, 2, 3), 60
LEAST = 2.5  # times faster with what is stored
Numbers = list[tuple[str, str, str, float]]


def measure(repeats: int = 1) -> list[Row]:
    """Medians of CPU seconds of whole commands."""
    bare = median(cpu_of([sys.executable, "-c", IMPORTS]) for _ in range(3))
    seconds: dict[str, list[float]] = {"without": [], "empty": [], "filled": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as place:
            found = []
            for name, where in (("without", "off"), ("empty", f"{place}/store"), ("filled", f"{place}/store")):
                seconds[name].append(_sweep(Path(place) / name, where) - bare)
                found.append(_numbers(Path(place) / name))
            if found[0] != found[1] or found[0] != found[2] or not found[0]:
                raise AssertionError("the sweeps have other results")
    without, empty, filled = (median(seconds[name]) for name in seconds)
    figures = {
        "without, CPU s": without,
        "store empty at first, CPU s": empty,
        "store filled, CPU s": filled,
        "imports of a process, CPU s": bare,
        "times faster, empty at first": without / empty,
    }
    marks = (Mark("times faster, filled", without / filled, LEAST),)
    return [
        Row(
            "feature_store",
            f"{', '.join(METHODS)}; {len(SEEDS)} seeds on doodles, 16 shots, {STEPS} steps",
            figures,
            marks,
        )
    ]


def _sweep(out: Path, store: str) -> float:
    grid = [part for name in METHODS for part in ("--method", name)]
    grid += [part for seed in SEEDS for part in ("--seed", str(seed))]
    grid += ["--views", "1", "--max-steps", str(STEPS), "--no-reference"]
    where = ["--out", str(out), "--feature-cache", store, "--workers", "0", "--device", "cpu"]
    return cpu_of([sys.executable, "-m", "vlmprompt", "sweep", *grid, *where])


def _numbers(out: Path) -> Numbers:
    rows = ResultStore(out / RESULTS_FILE).read().rows
    return sorted((row.run, row.method, row.metric, row.value or 0.0) for row in rows)

"""How long `vlmprompt report` takes for many rows: reading them, grouping them, and writing the tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import median

from benchmarks.frame import Mark, Row, children_clock
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import ResultStore

FEW, MANY, MOST_S = 10_000, 100_000, 3.0
METHODS, SHOTS, DATASETS = 20, (1, 2, 4, 8, 16), 11
METRICS = ("top1", "mean_per_class", "ece_15", "ece_adaptive_15", "brier", "nll", "aurc")
DOMAINS = 8


def measure(repeats: int = 3) -> list[Row]:
    """Processor seconds of the whole command, its start included."""
    with tempfile.TemporaryDirectory() as place:
        seconds = {count: _files(Path(place) / str(count), count) for count in (FEW, MANY)}
        taken = {count: median(_cpu_s(folder) for _ in range(repeats)) for count, folder in seconds.items()}
    figures = {f"CPU s of {count:,} rows": taken[count] for count in taken}
    mark = Mark(f"CPU s of {MANY:,} rows", taken[MANY], MOST_S, at_least=False)
    return [Row("report", f"{METHODS} methods, {DATASETS} data sets, {len(SHOTS)} shots, many seeds", figures, (mark,))]


def _files(folder: Path, count: int) -> Path:
    rows = [row for _, row in zip(range(count), _rows(), strict=False)]
    ResultStore(folder / "results.jsonl").append(rows)
    return folder


def _rows() -> Iterator[ResultRow]:
    """Of one run after the other: accuracy, and eight domains with what enters their mean."""
    for seed in range(1, 1_000):
        for method, shots, data in product(range(METHODS), SHOTS, range(DATASETS)):
            run = f"m{method}-set{data}-{shots}-{seed}"
            same = {"run": run, "method": f"m{method}", "dataset": f"set{data}", "backbone": "ViT-B-16", "n": 1000}
            same |= {"shots": shots, "seed": seed, "suite_version": 1, "setup": {"data": f"set{data}", "lr": "0.002"}}
            value = (seed * 7919 + method * 104729 + data) % 1000 / 1000
            for metric in METRICS:
                kind = {"suite": "accuracy", "cell": "test", "metric": metric, "key": run}
                yield ResultRow.model_validate(same | kind | {"value": value})
            for domain in range(DOMAINS):
                kind = {"suite": "domains", "cell": f"d{domain}", "metric": "top1", "key": f"{run}-domains"}
                yield ResultRow.model_validate(same | kind | {"value": value, "enters": ("mean",)})


def _cpu_s(folder: Path) -> float:
    """Of one call in a process of its own."""
    start = children_clock()
    command = [sys.executable, "-m", "vlmprompt", "report", str(folder)]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, check=True)
    assert done.stdout.count(b"\n") > DATASETS, json.dumps(done.stderr.decode())
    return children_clock() - start

"""`train --method bloom` on doodles in an empty folder: time of all of it, and the loader's share of the main process.

Processor time is of the command and the processes that it started; the loader's is that which the main process spends
on waiting for batches, in processor time too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.frame import Mark, Row, children_clock

MOST_SHARE = 0.05
STEPS = 200
SCRIPT = """
import sys, time
from vlmprompt.cli.main import main
from vlmprompt.training.batches import ImageBatches

spent = 0.0
plain = ImageBatches.epoch

def epoch(self, *args, **kwargs):
    global spent
    batches = plain(self, *args, **kwargs)
    while True:
        start = time.process_time()
        batch = next(batches, None)
        spent += time.process_time() - start
        if batch is None:
            return
        yield batch

ImageBatches.epoch = epoch
assert main(sys.argv[1:]) == 0
print(spent / time.process_time(), file=sys.stderr)
"""


def measure(repeats: int = 2) -> list[Row]:
    """One row."""
    runs = [_run() for _ in range(repeats)]
    cpu_s, wall_s, share = (median(column) for column in zip(*runs, strict=True))
    figures = {"CPU s": cpu_s, "wall s": wall_s, "loader, share of the main process": share}
    marks = (Mark("loader, share", share, MOST_SHARE, at_least=False),)
    return [Row("bloom_run", f"train, Bloom on doodles, {STEPS} steps", figures, marks)]


def _run() -> tuple[float, float, float]:
    """Processor and wall seconds of a run, and the loader's share."""
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"VLMPROMPT_CACHE_DIR": str(Path(folder) / "cache")}
        steps = [part for name in ("epochs", "max_steps") for part in ("--set", f"{name}={STEPS}")]
        command = [sys.executable, "-c", SCRIPT, "train", "--method", "bloom", "--data", "doodles", *steps]
        cpu, start = children_clock(), time.perf_counter()
        done = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, encoding="utf-8", check=True
        )
        cpu_s, wall_s = children_clock() - cpu, time.perf_counter() - start
    return cpu_s, wall_s, float(done.stderr.split()[-1])

"""`train --method bloom` on doodles in an empty folder: time of all of it, and the loader's share of the main process.

Processor time is of the command and the processes that it started; the loader's is that which the main process spends
on waiting for batches, in processor time too.
"""

from __future__ import annotations

from statistics import median

from benchmarks.frame import Mark, Row, in_empty_folder

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
    steps = [part for name in ("epochs", "max_steps") for part in ("--set", f"{name}={STEPS}")]
    wall_s, cpu_s, told = in_empty_folder(["-c", SCRIPT, "train", "--method", "bloom", "--data", "doodles", *steps])
    return cpu_s, wall_s, float(told.split()[-1])

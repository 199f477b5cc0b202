"""Processor time and memory of GalLoP's text side over the number of classes, each number in a fresh process.

As a script, `python -m benchmarks.classes_scale K` measures one number of classes and prints JSON.
"""

from __future__ import annotations

import json
import math
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from benchmarks.frame import Mark, Row, timed
from benchmarks.names import SHORT

CLASSES = (10, 30, 100, 300, 1000)
# glibc keeps freed tensors in its heap, where they count as resident. With a fixed threshold it gives them back
# at once: the figures "in use" tell what the engine holds from what the allocator keeps. The mark is without it.
IN_USE = {"MALLOC_TRIM_THRESHOLD_": "100000"}
VARIABLE = "VLMPROMPT_TEXT_MEMORY"  # gigabytes of activations that are kept for the backward pass; default 2
OVERHEAD = 0.7  # GB beside them: of a part on its way, and of what the allocator keeps


def measure(repeats: int = 3) -> list[Row]:
    """The log-log slope of time over K; memory at 1000 classes, and how it grows where nothing may be kept."""
    measured = partial(in_fresh_process, "classes_scale")
    rows = {k: measured(k, repeats) for k in CLASSES}
    growth = slope([(k, rows[k]["seconds"]) for k in CLASSES])
    bare = {k: measured(k, 1, env={VARIABLE: "0"})["gigabytes"] for k in (100, 1000)}
    figures = {f"s at K={k}": row["seconds"] for k, row in rows.items()}
    figures |= {f"GB at K={k}": rows[k]["gigabytes"] for k in (100, 1000)}
    figures |= {f"GB in use at K={k}": measured(k, 1, env=IN_USE)["gigabytes"] for k in (100, 1000)}
    figures |= {f"GB at K={k}, nothing kept": held for k, held in bare.items()}
    marks = (
        Mark("log-log slope of time", growth, 1.1, at_least=False),  # parts are computed again beyond 2 GB
        Mark("GB at K=1000", rows[1000]["gigabytes"], 2 + OVERHEAD, at_least=False),
        Mark("memory at K=1000 over K=100, nothing kept", bare[1000] / bare[100], 1.5, at_least=False),
    )
    return [Row("classes_scale", "ViT-B/16 text, P=8, V=4, forward and backward, K = 10..1000", figures, marks)]


def slope(points: list[tuple[int, float]]) -> float:
    """Least-squares slope of log(y) over log(x)."""
    logs = [(math.log(x), math.log(y)) for x, y in points]
    mean_x, mean_y = (statistics.fmean(axis) for axis in zip(*logs, strict=True))
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)


def one(n_classes: int, repeats: int) -> dict[str, float]:
    """Seconds of a step (median), and the peak memory of the process's first step above what it held before."""
    from benchmarks import plain
    from benchmarks.text_engine import engine_step, inputs

    _, _, backbone = plain.build()
    names = (SHORT * math.ceil(n_classes / len(SHORT)))[:n_classes]
    step = partial(engine_step, backbone, backbone.text.class_tokens(names, tail=""), *inputs(backbone, n_classes))
    before = forget_peak()
    step()
    peak = peak_bytes()
    return {
        "seconds": statistics.median(timed(step, time.process_time) for _ in range(repeats)),
        "gigabytes": (peak - before) / 1e9,
    }


def in_fresh_process(bench: str, *arguments: object, env: Mapping[str, str] | None = None) -> dict[str, float]:
    """What a benchmark measures when it is run as a script."""
    command = [sys.executable, "-m", f"benchmarks.{bench}", *map(str, arguments)]
    root = Path(__file__).parents[1]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, cwd=root, env={**os.environ, **(env or {})}
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


def forget_peak() -> int:
    """Bytes resident now. On Linux the recorded peak falls back to it, or loading the model would hide the step's."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def peak_bytes() -> int:
    """The most bytes that were resident at a time since `forget_peak`.

    Not `getrusage`, whose figure is at least what the parent process held when it started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])


if __name__ == "__main__":
    print(json.dumps(one(int(sys.argv[1]), int(sys.argv[2]))))

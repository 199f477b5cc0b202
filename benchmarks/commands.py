"""Whole commands as one types them, each in an empty folder with empty caches, by the wall clock and in processor time.

Nobody says how many threads there are or how many runs are done at once. Schedules are given, so that another version
does the same steps (`commands.toml` is the recipe `doodles-short` with those it had at first). The machine should have
nothing else to do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.frame import Row, in_empty_folder

HERE = Path(__file__).parent
SEEDS_VARIABLE = "BENCH_SEEDS"
SEEDS = [part for seed in os.environ.get(SEEDS_VARIABLE, "1").split(",") for part in ("--seed", seed)]
COMMANDS = {
    "train, Bloom, 200 steps": [
        *("train", "--method", "bloom", "--data", "doodles"),
        *("--set", "max_steps=200", "--set", "epochs=200", "--set", "lr=0.006"),
    ],
    "sweep, CoOp, KgCoOp and references, 3 seeds, 300 steps": [
        *("sweep", "--method", "coop", "--method", "kgcoop", "--data", "doodles", "--shots", "16"),
        *("--seed", "1", "--seed", "2", "--seed", "3", "--set", "max_steps=300"),
    ],
    f"reproduce doodles-short, {len(SEEDS) // 2 * 12} runs": ["reproduce", str(HERE / "commands.toml"), *SEEDS],
}
# What the caller has set for its own sake.
NOT_PASSED_ON = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "VLMPROMPT_JOBS")


def measure(repeats: int = 1) -> list[Row]:
    """A row for each command; the recipe's seeds are those of BENCH_SEEDS, 1 by default."""
    return [Row("commands", case, _figures(command, repeats)) for case, command in COMMANDS.items()]


def _figures(command: Sequence[str], repeats: int) -> Mapping[str, float]:
    env = {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}
    wall_s, cpu_s, _ = zip(*(in_empty_folder(["-m", "vlmprompt", *command], env) for _ in range(repeats)), strict=True)
    return {"wall s": median(wall_s), "CPU s": median(cpu_s)}

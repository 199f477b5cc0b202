"""How long `vlmprompt --help` takes with all plugins installed, what a slip costs, and that both leave torch alone."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.frame import Mark, Row, side_by_side

COUNT_TORCH = """
import sys
from vlmprompt.cli.main import main
assert main(sys.argv[1:]) in (0, 2, 3)
print(sum(name.split(".")[0] == "torch" for name in sys.modules), file=sys.stderr)
"""
SLIPS = {
    "method": ["train", "--method", "coopp"],
    "data set": ["train", "--method", "coop", "--data", "foldr:photos"],
    "folder": ["train", "--method", "coop", "--data", "folder:nowhere"],
    "backbone": ["train", "--method", "coop", "--backbone", "vit_b16"],
    "tag": ["train", "--method", "coop", "--backbone", "ViT-B-16/opnai"],
    "run": ["evaluate", "nowhere"],
    "grid": ["sweep", "--method", "coop", "--grid", "n_ctxx=4,16"],
}
SLIP_REPEATS = 5


def measure(repeats: int = 15) -> list[Row]:
    """Medians of whole processes, the file cache warm."""
    return [_help(repeats), *(_slip(what, line) for what, line in SLIPS.items())]


def _help(repeats: int) -> Row:
    script = Path(sys.executable).parent / "vlmprompt"
    run = partial(subprocess.run, capture_output=True, text=True, check=True)
    loaded = _torch_modules(["--help"])  # this also warms the file cache
    help_s, bare_s = side_by_side(
        {partial(run, [script, "--help"]): repeats, partial(run, [sys.executable, "-c", "pass"]): repeats}
    )
    marks = (
        Mark("seconds", help_s, 0.30, at_least=False),
        Mark("torch modules", loaded, 0, at_least=False),
    )
    figures = {"vlmprompt --help s": help_s, "python -c pass s": bare_s}
    return Row("startup", "vlmprompt --help", figures, marks)


def _slip(what: str, line: list[str]) -> Row:
    loaded = _torch_modules(line)
    cpu_s = median(_cpu_s([sys.executable, "-m", "vlmprompt", *line]) for _ in range(SLIP_REPEATS))
    marks = (
        Mark("CPU seconds", cpu_s, 1.0, at_least=False),
        Mark("torch modules", loaded, 0, at_least=False),
    )
    return Row("startup", f"misspelt {what}", {"CPU s": cpu_s}, marks)


def _torch_modules(line: list[str]) -> int:
    done = subprocess.run([sys.executable, "-c", COUNT_TORCH, *line], capture_output=True, text=True, check=True)
    return int(done.stderr.split()[-1])


def _cpu_s(command: list[Any]) -> float:
    """User and system time of a process and its children."""
    before = os.times()
    subprocess.run(command, capture_output=True, check=False)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system

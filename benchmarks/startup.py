"""How long `vlmprompt --help` takes with all plugins installed, what a slip costs, and that both leave torch alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.frame import Mark, Row, children_clock, side_by_side, timed
from vlmprompt.cli.plugins_new import Kind, package_files

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
PLUGINS = 20


def measure(repeats: int = 15) -> list[Row]:
    """Medians of whole processes, the file cache warm."""
    return [_help(repeats), _with_plugins(repeats), *(_slip(what, line) for what, line in SLIPS.items())]


def _help(repeats: int) -> Row:
    script = Path(sys.executable).parent / "vlmprompt"
    run = partial(subprocess.run, capture_output=True, text=True, check=True)
    loaded = _torch_modules(["--help"])  # this also warms the file cache
    help_s, bare_s = side_by_side(
        {partial(run, [script, "--help"]): repeats, partial(run, [sys.executable, "-c", "pass"]): repeats},
        time.perf_counter,  # they are processes of their own, which this one's clock does not count
    )
    marks = (
        Mark("seconds", help_s, 0.30, at_least=False),
        Mark("torch modules", loaded, 0, at_least=False),
    )
    figures = {"vlmprompt --help s": help_s, "python -c pass s": bare_s}
    return Row("startup", "vlmprompt --help", figures, marks)


def _with_plugins(repeats: int) -> Row:
    """Packages as `plugins new` writes them, beside none but those that are installed anyway."""
    with tempfile.TemporaryDirectory() as place:
        for number in range(PLUGINS):
            _install(Path(place), f"startup-{number}")
        path = os.pathsep.join([place, os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "vlmprompt", "--help"]
        run = partial(subprocess.run, command, capture_output=True, text=True, check=True)
        found = json.loads(_printed(["plugins", "list", "--json"], path))["data"]["plugins"]
        with_s, without_s = side_by_side(
            {partial(run, env=os.environ | {"PYTHONPATH": path}): repeats, partial(run): repeats}, time.perf_counter
        )
    added = sum(row["plugin"].startswith("startup_") and row["status"] == "ok" for row in found)
    marks = (
        Mark("times without", with_s / without_s, 1.3, at_least=False),
        Mark("plugins", added, PLUGINS),
    )
    figures = {"with s": with_s, "without s": without_s}
    return Row("startup", f"--help with {PLUGINS} more plugins", figures, marks)


def _install(site: Path, name: str) -> None:
    """A new package with its metadata, in a folder that holds others, as an installation leaves it."""
    module = name.replace("-", "_")
    files = package_files(name, Kind.METHOD)
    files = {path.removeprefix("src/"): text for path, text in files.items() if path.startswith("src/")}
    info = f"vlmprompt_{module}-0.1.dist-info"
    files[f"{info}/METADATA"] = f"Name: vlmprompt-{name}\nVersion: 0.1\n"
    files[f"{info}/entry_points.txt"] = f"[vlmprompt]\n{module} = vlmprompt_{module}\n"
    for path, text in files.items():
        (site / path).parent.mkdir(exist_ok=True)
        (site / path).write_text(text, encoding="utf-8")


def _printed(line: list[str], path: str) -> str:
    """What a command writes to stdout; this also warms the file cache."""
    command = [sys.executable, "-m", "vlmprompt", *line]
    env = os.environ | {"PYTHONPATH": path}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout


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
    return timed(partial(subprocess.run, command, capture_output=True, check=False), children_clock)

"""A benchmark here and in another checkout, in processor seconds, one after the other in turns.

What is measured is the checkout's packages (`src` and `plugins/*/src`), by the benchmark of this one, so that both
sides do the same; or by each checkout's own benchmark, where it has changed too much.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.frame import CLOCK_VARIABLE

HERE = Path(__file__).parents[1]
BENCH, AGAINST = "bench.json", "against.json"  # what a run leaves, and what a comparison does
Figures = dict[tuple[str, str, str], float]  # (benchmark, case, figure) -> its value


@dataclass(frozen=True)
class Compared:
    """A figure of both sides, each the median of its runs."""

    bench: str
    case: str
    figure: str
    other: float
    own: float

    def __str__(self) -> str:
        ratio = f"{self.other / self.own:.2f}" if self.own else "-"
        return f"| {self.bench} | {self.case} | {self.figure} | {self.other:.4g} | {self.own:.4g} | {ratio} |"


def compare(name: str, folder: Path, *, rounds: int, repeats: int | None, own_code: bool) -> list[Compared]:
    """The figures that both sides have.

    Args:
        folder: of the other checkout.
        rounds: how often each side is run.
        repeats: of each run, in place of the benchmark's own number.
        own_code: each side is measured by its own benchmarks.
    """
    sides: dict[Path, list[Figures]] = {folder.resolve(): [], HERE: []}
    for turn in range(rounds):
        for root, found in sides.items():
            print(f"{name}, round {turn + 1} of {rounds}: {root} ...", file=sys.stderr, flush=True)
            found.append(_figures(name, root, root if own_code else HERE, repeats))
    other, own = ({key: _median(runs, key) for key in runs[0]} for runs in sides.values())
    return [Compared(*key, other[key], own[key]) for key in own if key in other]


def _figures(name: str, packages: Path, code: Path, repeats: int | None) -> Figures:
    """What the benchmark finds in a process of its own."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "benchmarks.run", name, "--out", out]
        command += [] if repeats is None else ["--repeats", str(repeats)]
        done = subprocess.run(command, cwd=code, env=environment(packages, code), stdout=subprocess.DEVNULL)
        if done.returncode not in (0, 1):  # 1: a mark was missed
            raise SystemExit(f"benchmark {name} failed with the packages of {packages}; see above, or try --own-code")
        report = Path(out) / BENCH
        if not report.exists():
            raise SystemExit(f"benchmark {name} does not run with the packages of {packages}; try --own-code")
        rows = json.loads(report.read_text(encoding="utf-8"))["rows"]
    return {(row["bench"], row["case"], key): value for row in rows for key, value in row["figures"].items()}


def environment(packages: Path, code: Path) -> Mapping[str, str]:
    """In which a process imports a checkout's packages, and `benchmarks` from `code`."""
    paths = [packages / "src", *sorted(packages.glob("plugins/*/src")), code]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), CLOCK_VARIABLE: "processor"}


def _median(runs: Iterable[Figures], key: tuple[str, str, str]) -> float:
    return statistics.median(run[key] for run in runs if key in run)


def table(found: Iterable[Compared]) -> str:
    """One line a figure, in markdown; a ratio above 1 says that this checkout takes less."""
    lines = ["| benchmark | case | figure | other | this | other / this |", "|---|---|---|---|---|---|"]
    return "\n".join([*lines, *map(str, found)])

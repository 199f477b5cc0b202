"""Run benchmarks: `python -m benchmarks.run [NAME ...]`. Exit 1 where a mark is missed.

`python -m benchmarks.run NAME --against DIR` runs one here and with the packages of another checkout, and prints
ratios. `python -m benchmarks.page bench-out` writes what both left there into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.against import AGAINST, BENCH, HERE, Compared, compare, table
from benchmarks.frame import Row

BENCHES = (
    "startup",
    "first_step",
    "text_engine",
    "text_engine_roofline",
    "image_towers",
    "frozen_tower",
    "text_towers",
    "bloom_step",
    "bloom_run",
    "commands",
    "gallop_step",
    "gallop_memory",
    "kernels",
    "lora_step",
    "ot",
    "dual_pt_step",
    "profiles",
    "inference",
    "classes_scale",
    "class_shares",
    "many_classes",
    "doodles",
    "export",
    "describe",
    "review",
    "visits",
    "report",
    "linear_probe",
    "pictures",
    "reading",
    "large_data",
    "predict",
    "tip_adapter",
    "workers",
    "one_pass",
    "feature_store",
)

INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve")


def main() -> int:
    """Measure, print, write `bench.json` and `bench.md`."""
    parser = argparse.ArgumentParser(description="Ratios side by side in one run; medians of several repeats.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)} (default: all)")
    parser.add_argument("--repeats", type=int, help="in place of each benchmark's own number")
    parser.add_argument("--out", type=Path, default=Path("bench-out"), help="folder for the report (bench-out)")
    parser.add_argument("--against", type=Path, metavar="DIR", help="another checkout to compare with, in turns")
    parser.add_argument("--rounds", type=int, default=3, help="with --against: runs of each checkout (3)")
    parser.add_argument("--own-code", action="store_true", help="with --against: each checkout's own benchmarks")
    args = parser.parse_args()
    if unknown := set(args.names) - set(BENCHES):
        parser.error(f"no benchmark {sorted(unknown)[0]!r}; there are {', '.join(BENCHES)}")
    if args.against is not None:
        return _against(parser, args)
    rows: list[Row] = []
    for name in args.names or BENCHES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        measure = import_module(f"benchmarks.{name}").measure
        new = measure() if args.repeats is None else measure(args.repeats)
        rows += new
        print(*(f"  {mark}" for row in new for mark in row.marks), sep="\n", file=sys.stderr, flush=True)
        write(args.out, rows)
    print(markdown(rows))
    return 0 if all(row.passed for row in rows) else 1


def _against(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    """Print how the benchmarks named differ from another checkout's."""
    if not (args.against / "src" / "vlmprompt").is_dir():
        parser.error(f"{args.against} is no checkout: it has no src/vlmprompt")
    if not args.names:
        parser.error("say which benchmarks are to be compared")
    found: list[Compared] = []
    for name in args.names:
        found += compare(name, args.against, rounds=args.rounds, repeats=args.repeats, own_code=args.own_code)
        document = {"schema": 1, "machine": machine(), "other": commit(args.against), "rows": list(map(asdict, found))}
        write_json(args.out / AGAINST, document)
    print(table(found))
    return 0


def write(folder: Path, rows: Sequence[Row]) -> None:
    """The report as JSON and as a markdown table, so far."""
    document = {
        "schema": 1,
        "machine": machine(),
        "passed": all(row.passed for row in rows),
        "rows": [
            asdict(row) | {"marks": [asdict(mark) | {"reached": mark.reached} for mark in row.marks]} for row in rows
        ],
    }
    write_json(folder / BENCH, document)
    (folder / "bench.md").write_text(markdown(rows) + "\n", encoding="utf-8")


def write_json(file: Path, document: object) -> None:
    """A report, for `benchmarks.page`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def markdown(rows: Sequence[Row]) -> str:
    """One line a row."""
    lines = ["| benchmark | case | figures | marks |", "|---|---|---|---|"]
    for row in rows:
        figures = ", ".join(f"{name} {value:.3g}" for name, value in row.figures.items())
        lines.append(f"| {row.bench} | {row.case} | {figures} | {'; '.join(map(str, row.marks)) or '-'} |")
    return "\n".join(lines)


def machine() -> dict[str, str | int | None]:
    """What absolute times depend on, and when they were taken."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(HERE),
        "processor": processor(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "open_clip": version("open_clip_torch"),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def processor() -> str:
    """What the system calls it, with the instructions that matrix products have by it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return platform.processor()
    known = dict(line.split(":", 1) for line in lines if ":" in line)
    known = {name.strip(): value.strip() for name, value in known.items()}
    name = known.get("model name") or platform.processor() or platform.machine()
    flags = [flag for flag in known.get("flags", "").split() if flag in INSTRUCTIONS]
    return f"{name} ({', '.join(flags)})" if flags else name


def commit(folder: Path) -> str:
    """The commit that a checkout is at, with a + where files differ from it; "?" outside of git."""
    git = ["git", "-C", str(folder)]
    found = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True)
    return f"{found.stdout.strip()}{'+' * bool(changed.stdout.strip())}" if found.returncode == 0 else "?"


if __name__ == "__main__":
    sys.exit(main())

"""Run benchmarks: `python -m benchmarks.run [NAME ...]`. Exit 1 where a mark is missed."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import torch

from benchmarks.frame import Row

BENCHES = (
    "startup",
    "text_engine",
    "text_engine_roofline",
    "image_towers",
    "text_towers",
    "bloom_step",
    "gallop_step",
    "gallop_memory",
    "lora_step",
    "ot",
    "classes_scale",
    "class_shares",
    "many_classes",
    "doodles",
    "export",
    "describe",
    "pictures",
    "reading",
    "large_data",
    "predict",
    "tip_adapter",
    "workers",
)


def main() -> int:
    """Measure, print, write `bench.json` and `bench.md`."""
    parser = argparse.ArgumentParser(description="Ratios side by side in one run; medians of several repeats.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)} (default: all)")
    parser.add_argument("--repeats", type=int, help="in place of each benchmark's own number")
    parser.add_argument("--out", type=Path, default=Path("bench-out"), help="folder for the report (bench-out)")
    args = parser.parse_args()
    if unknown := set(args.names) - set(BENCHES):
        parser.error(f"no benchmark {sorted(unknown)[0]!r}; there are {', '.join(BENCHES)}")
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


def write(folder: Path, rows: Sequence[Row]) -> None:
    """The report as JSON and as a markdown table, so far."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "schema": 1,
        "machine": machine(),
        "passed": all(row.passed for row in rows),
        "rows": [
            asdict(row) | {"marks": [asdict(mark) | {"reached": mark.reached} for mark in row.marks]} for row in rows
        ],
    }
    (folder / "bench.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (folder / "bench.md").write_text(markdown(rows) + "\n", encoding="utf-8")


def markdown(rows: Sequence[Row]) -> str:
    """One line a row."""
    lines = ["| benchmark | case | figures | marks |", "|---|---|---|---|"]
    for row in rows:
        figures = ", ".join(f"{name} {value:.3g}" for name, value in row.figures.items())
        lines.append(f"| {row.bench} | {row.case} | {figures} | {'; '.join(map(str, row.marks)) or '-'} |")
    return "\n".join(lines)


def machine() -> dict[str, str | int | None]:
    """What absolute times depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    sys.exit(main())

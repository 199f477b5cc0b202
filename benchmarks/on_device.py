"""Measure one card: `python -m benchmarks.on_device` (or `nox -s gpu`). Exit 1 where a mark is missed or a part fails.

Everything is made on the spot: random or built-in weights, noise for images; no network. `--device cpu` runs the same
in small, which shows that it runs, and no speed.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from benchmarks import device_equal, device_speed
from benchmarks.budget import Budget, Line, Part
from benchmarks.device_sizes import FULL, TINY, Setting
from benchmarks.run import machine
from vlmprompt.training.device import resolve_device

SECONDS = 8 * 60 - 20  # for loading torch and for a row that is late
# What each part may take of them, the most telling first.
SHARES = (
    ("equal", 110, device_equal.methods),
    ("equal, full size", 40, device_equal.step_of_vit),
    ("steps", 90, device_speed.steps),
    ("imagenet", 50, device_speed.imagenet),
    ("bf16", 30, device_equal.reduced_precision),
    ("overlap", 60, device_speed.overlap),
    ("evaluate", 80, device_speed.evaluating),
)


def main() -> int:
    """Measure, print, write `on_device.json` and `on_device.md`."""
    names = [name for name, _, _ in SHARES]
    parser = argparse.ArgumentParser(description="One device: right numbers, step times, reading, evaluating.")
    parser.add_argument("names", nargs="*", metavar="PART", help=f"of {'; '.join(names)} (default: all)")
    parser.add_argument("--device", default="cuda", help="cuda (default), cuda:1, or cpu: small, to try the script")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"for all parts together ({SECONDS})")
    parser.add_argument("--workers", type=int, help="reading processes (default: one fewer than cores, at most 16)")
    parser.add_argument("--out", type=Path, default=Path("gpu-out"), help="folder for the report (gpu-out)")
    args = parser.parse_args()
    if unknown := set(args.names) - set(names):
        parser.error(f"no part {sorted(unknown)[0]!r}; there are {', '.join(map(repr, names))}")
    setting = settle(args.device, args.workers)
    lines: list[Line] = []

    def seen(line: Line) -> None:
        lines.append(line)
        print(f"  {described(line)}", file=sys.stderr, flush=True)
        write(args.out, setting, lines)

    warnings.simplefilter("ignore")  # of towers with random weights, of classes with few images
    chosen = [part for part in parts(setting) if not args.names or part.name in args.names]
    Budget(args.seconds).measure(chosen, seen)
    print(markdown(setting, lines))
    return 0 if all(line.status in ("ok", "skipped") for line in lines) else 1


def settle(device: str, workers: int | None) -> Setting:
    """The device with exact fp32 arithmetic, and sizes that fit it."""
    place = resolve_device(device)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    cores = machine()["cores"]
    assert isinstance(cores, int)
    return Setting(place, FULL if place.type == "cuda" else TINY, min(16, cores - 1) if workers is None else workers)


def parts(setting: Setting) -> list[Part]:
    """All of them, in their order."""
    return [Part(name, share, partial(rows, setting)) for name, share, rows in SHARES]


def described(line: Line) -> str:
    """A line in a few words."""
    what = line.part if line.row is None else f"{line.part}: {line.row.case}"
    more = line.reason if line.row is None else "; ".join(map(str, line.row.marks))
    return f"{line.status:8}{what}{': ' if more else ''}{more}"


def markdown(setting: Setting, lines: Sequence[Line]) -> str:
    """One line a row, below what was measured on."""
    table = [f"{place(setting)}, torch {torch.__version__}, fp32 without TF32", ""]
    table += ["| part | case | figures | marks | |", "|---|---|---|---|---|"]
    for line in lines:
        if line.row is None:
            table.append(f"| {line.part} | | | {line.reason} | {line.status} |")
            continue
        figures = ", ".join(f"{name} {value:.3g}" for name, value in line.row.figures.items())
        marks = "; ".join(map(str, line.row.marks)) or "-"
        table.append(f"| {line.part} | {line.row.case} | {figures} | {marks} | {line.status} |")
    return "\n".join(table)


def write(folder: Path, setting: Setting, lines: Sequence[Line]) -> None:
    """The report as JSON and as a markdown table, so far."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "schema": 1,
        "machine": machine(),
        "device": place(setting),
        "sizes": asdict(setting.sizes),
        "workers": setting.workers,
        "lines": [asdict(line) for line in lines],
    }
    (folder / "on_device.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (folder / "on_device.md").write_text(markdown(setting, lines) + "\n", encoding="utf-8")


def place(setting: Setting) -> str:
    """The device as it calls itself."""
    return torch.cuda.get_device_name(setting.device) if setting.cuda else f"{setting.device} (small sizes: no speeds)"


if __name__ == "__main__":
    sys.exit(main())

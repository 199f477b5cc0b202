"""What a folder holds, without times: equal for equal work, however often it was stopped."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

TIMES = {"started", "finished", "seconds", "peak_memory", "images_per_s"}


def contents(folder: Path) -> dict[str, str]:
    """File -> digest of its bytes; of logs, results and run.json of all but times. Rows count once, in any order."""
    names = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(name): _digest(folder / name) for name in names if not _hidden(name)}


def twice(folder: Path) -> int:
    """Rows that stand in results files more than once."""
    files = folder.rglob("results.jsonl")
    found = [_row(json.loads(line)) for file in files for line in file.read_bytes().splitlines()]
    return len(found) - len(set(found))


def left_over(folder: Path) -> int:
    """Hidden files: half-written ones, and claims."""
    return sum(1 for p in folder.rglob("*") if p.is_file() and _hidden(p.relative_to(folder)))


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _digest(path: Path) -> str:
    content = path.read_bytes()
    if path.name == "results.jsonl":  # what failed for want of space gives way to what was measured later
        newest = {(row["key"], row["metric"]): _row(row) for row in map(json.loads, content.splitlines())}
        content = "\n".join(sorted(newest.values())).encode()
    elif path.name == "log.csv":
        content = json.dumps([_timeless(row) for row in csv.DictReader(content.decode().splitlines())]).encode()
    elif path.suffix in (".json", ".jsonl"):
        lines = [content] if path.suffix == ".json" else content.splitlines()
        content = json.dumps([_timeless(json.loads(line)) for line in lines], sort_keys=True).encode()
    elif path.suffix == ".md":
        content = b""  # made of what is compared anyway, with times
    return hashlib.sha256(content).hexdigest()


def _row(row: dict[str, Any]) -> str:
    """A number and what it is of; not the run that a reference happened to stand beside."""
    return json.dumps([row["key"], row["metric"], row["value"], row["n"], row["status"]])


def _timeless(thing: Any) -> Any:
    if isinstance(thing, dict):
        return {key: _timeless(value) for key, value in thing.items() if key not in TIMES}
    return thing

"""Copies of the benchmarks that are taken for something else, because they lie on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from vlmprompt.data.coop.facts import COPIES, Benchmark, benchmarks
from vlmprompt.errors import InputError


def refuse_copy(name: str, path: Path | None) -> None:
    """Tell how a benchmark is read, where it is named as a data set of the hub: with its published split.

    Args:
        path: where `name` is on disk, if it is.

    Raises:
        InputError: it is the collection of copies, a folder of it, or the folder of a benchmark.
    """
    if path is None and name == COPIES:
        hint = f"hf download {COPIES} dtd.zip --local-dir DATA, unpack it there, and --data coop:dtd --root DATA"
        raise InputError(f"{COPIES} is no table but zip files of benchmarks in CoOp's layout", hint=hint)
    if path is None or not path.is_dir():
        return
    for facts in benchmarks().values():
        root = next((root for root in (path.parent, path) if _lies_in(facts, path, root)), None)
        if root is not None:
            command = f"--data {facts.spec} --root {root}"
            raise InputError(
                f"{path} holds {facts.spec} in CoOp's layout", hint=f"its published split is read by {command}"
            )


def _lies_in(facts: Benchmark, path: Path, root: Path) -> bool:
    """Whether the path is the benchmark's folder, below the root, or itself the root that it lies in."""
    files = [facts.split.file] if facts.split else list(facts.lists.splits.values()) if facts.lists else []
    if path != root:
        return any((path / file).is_file() for file in files)
    packed = bool(facts.archive) and (root / facts.archive).is_file()
    return packed or any((root / folder / file).is_file() for folder in facts.folders for file in files)

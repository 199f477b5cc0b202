"""Dassl's output folders, which hold a checkpoint for some epochs: `<folder>/prompt_learner/model.pth.tar-50`."""

from __future__ import annotations

import re
from pathlib import Path

from vlmprompt.errors import InputError
from vlmprompt.progress import Progress

BEST = "model-best.pth.tar"
_EPOCH = re.compile(r"model\.pth\.tar-(\d+)")
SHOWN = 5  # of many folders, in an error


def newest_checkpoint(path: Path, progress: Progress) -> Path:
    """The file itself, or of a folder the checkpoint of the last epoch; says which one that is.

    The best one on validation images is taken where there is no other: runs here end after their last epoch.

    Raises:
        InputError: there is no such file, or a folder without a checkpoint, or with those of several runs below it.
    """
    if not path.exists():
        raise InputError(f"there is no checkpoint {path}", hint="name a file, or Dassl's folder around it")
    if not path.is_dir():
        return path
    found = [file for file in path.rglob("model*.pth.tar*") if file.is_file() and _epoch(file) is not None]
    if not found:
        raise InputError(
            f"there is no checkpoint in {path}: neither model.pth.tar-<epoch> nor {BEST} is in it or below it",
            hint="name the file",
        )
    folders = sorted({file.parent for file in found})
    if len(folders) > 1:
        more = ", ..." if len(folders) > SHOWN else ""
        raise InputError(
            f"{path} holds the checkpoints of {len(folders)} runs: {', '.join(map(str, folders[:SHOWN]))}{more}",
            hint="name one of these folders, or a file in it",
        )
    newest = max(found, key=lambda file: _epoch(file) or 0)
    others = sorted(file.name for file in found if file != newest)
    progress.message(f"reading {newest}" + (f"; beside it: {', '.join(others)}" if others else ""))
    return newest


def _epoch(file: Path) -> int | None:
    """Of a checkpoint its epoch, 0 for the best one; None of another file."""
    if file.name == BEST:
        return 0
    match = _EPOCH.fullmatch(file.name)
    return int(match[1]) if match else None

"""explain.json, and the files that it names."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlmprompt.errors import InputError
from vlmprompt.regular import regular
from vlmprompt.staging import move_files, staging
from vlmprompt.training.runs import Run

FILE = "explain.json"
FOLDER = "explain"  # within a run's own
VERSION = 1


@dataclass(frozen=True, repr=False)
class Explained:
    """What was written.

    Attributes:
        folder: where it lies.
        content: that of explain.json.
        failed: what could not be read, an error message each.
    """

    folder: Path
    content: Mapping[str, Any]
    failed: tuple[str, ...] = field(default=())

    @property
    def pictures(self) -> list[Path]:
        """The files of pictures, in order."""
        return [self.folder / own["file"] for image in self.content["images"] for own in image["pictures"]]

    @property
    def files(self) -> list[str]:
        """The names of all files in the folder, explain.json aside."""
        return sorted(_files(self.content))

    def __repr__(self) -> str:
        return f"Explained({str(self.folder)!r}: {len(self.content['images'])} images, {len(self.pictures)} pictures)"


@contextmanager
def room(folder: Path) -> Iterator[Path]:
    """An empty folder within the one for the pictures, where they wait until all are drawn; it is gone afterwards.

    Raises:
        InputError: nothing can be written there; what was there before is as it was.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        with staging(folder / FILE) as waiting:
            yield waiting
    finally:
        for place in made:
            with suppress(OSError):  # pictures are in it
                place.rmdir()


def require_ours(folder: Path, run: Run, files: Collection[str] = ()) -> None:
    """Refuse to replace what is not known to be of this run; its own folder is for nothing else.

    Args:
        files: names in the folder that are to be written.

    Raises:
        InputError: its explain.json is of another run, or of something else, or it does not name such a file.
    """
    if folder.resolve() == (run.path / FOLDER).resolve():
        return
    hint = "choose another folder with --out, or move it away"
    path = folder / FILE
    before = _read(path)
    if os.path.lexists(path) and not {"images", "run"} <= before.keys():
        raise InputError(f"{path} was not written by 'vlmprompt explain', and would be replaced", hint=hint)
    if before and before["run"] != run.name:
        raise InputError(f"{folder} holds pictures of another run, {before['run']!r}", hint=hint)
    for name in sorted(set(files) - _files(before)):
        if os.path.lexists(folder / name):
            raise InputError(f"{folder / name} is not of an earlier call, and would be replaced", hint=hint)


def write(folder: Path, waiting: Path, content: Mapping[str, Any]) -> None:
    """Write explain.json and move the files there that it names; those that an earlier one named are removed.

    Args:
        waiting: see `room`.

    Raises:
        InputError: it cannot be written.
    """
    before, files = _files(_read(folder / FILE)), _files(content)
    document = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (waiting / FILE).write_bytes(document.encode())
    # Without its explain.json first: one beside pictures of two calls would say what is not so.
    move_files(waiting, [folder / name for name in (*sorted(files), FILE)], gone_first=folder / FILE)
    for name in before - files:
        with suppress(OSError):
            (folder / name).unlink(missing_ok=True)


def _read(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(regular(file).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _files(content: Mapping[str, Any]) -> set[str]:
    """The plain names of the files that are named; a damaged file names none."""
    try:
        named = [*content.get("figures", ()), *(own for image in content["images"] for own in image["pictures"])]
        files = {str(own["file"]) for own in named}
    except (KeyError, TypeError, AttributeError):
        return set()
    return {name for name in files if name == Path(name).name and Path(name).suffix in (".png", ".svg")}

"""explain.json, and the files that it names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlmprompt.atomic import write_atomic

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

    def __repr__(self) -> str:
        return f"Explained({str(self.folder)!r}: {len(self.content['images'])} images, {len(self.pictures)} pictures)"


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Write explain.json; pictures that an earlier one named and this one does not are removed.

    Raises:
        InputError: it cannot be written.
    """
    before = _files(_read(folder / FILE))
    write_atomic(folder / FILE, (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())
    for name in before - _files(content):
        with suppress(OSError):
            (folder / name).unlink(missing_ok=True)


def _read(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
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

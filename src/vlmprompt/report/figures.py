"""All figures of a report as files, for papers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vlmprompt.atomic import write_atomic
from vlmprompt.report.section import Figure, Section


def write_figures(sections: Iterable[Section | None], folder: Path, kind: str) -> list[Path]:
    """Write each figure into a file `<name>.<kind>`, replacing what has that name.

    Args:
        kind: of `drawing.FORMATS`.

    Returns:
        The paths.

    Raises:
        InputError: one cannot be written.
    """
    written = []
    for part in (part for section in sections if section is not None for part in section.parts):
        if isinstance(part, Figure) and part.file is not None:
            path = folder / f"{part.name}.{kind}"
            write_atomic(path, part.file(kind))
            written.append(path)
    return written

"""All figures of a report as files, for papers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from vlmprompt.atomic import write_atomic
from vlmprompt.report.drawing import Drawn
from vlmprompt.report.section import Section


def drawn_figures(sections: Iterable[Section | None]) -> Iterator[Drawn]:
    """The figures that can be drawn again."""
    for section in sections:
        yield from (part for part in (section.parts if section else ()) if isinstance(part, Drawn))


def write_figures(sections: Iterable[Section | None], folder: Path, kind: str) -> list[Path]:
    """Write each figure into a file `<name>.<kind>`, and give their paths; those of one name are replaced.

    Args:
        kind: of `drawing.FORMATS`.

    Raises:
        InputError: one cannot be written.
    """
    written = []
    for figure in drawn_figures(sections):
        path = folder / f"{figure.name}.{kind}"
        write_atomic(path, figure.file(kind))
        written.append(path)
    return written

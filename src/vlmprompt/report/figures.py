"""All figures of a report as files, for papers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vlmprompt.atomic import write_atomic
from vlmprompt.report.run import ReportRun
from vlmprompt.report.section import Figure, Section
from vlmprompt.report.sections import (
    base_new,
    classes,
    comparison,
    confusion,
    domains,
    few_shot,
    learning,
    ood,
    reliability,
)

_WRITE = "free space or change the permissions there, or name another folder with --figures"
# The sections that draw.
SECTIONS: tuple[Callable[[Sequence[ReportRun]], Section | None], ...] = (
    few_shot.section,
    base_new.section,
    domains.section,
    comparison.section,
    learning.section,
    classes.section,
    confusion.section,
    reliability.section,
    ood.section,
)


def write_figures(runs: Sequence[ReportRun], folder: Path, kind: str) -> list[Path]:
    """Write each figure into a file `<name>.<kind>`, replacing what has that name.

    Args:
        kind: of `drawing.FORMATS`.

    Returns:
        The paths.

    Raises:
        InputError: one cannot be written.
    """
    written = []
    for figure in _figures(runs):
        if figure.file is not None:
            path = folder / f"{figure.name}.{kind}"
            write_atomic(path, figure.file(kind), hint=_WRITE)
            written.append(path)
    return written


def _figures(runs: Sequence[ReportRun]) -> Iterator[Figure]:
    for make in SECTIONS:
        section = make(runs)
        yield from (part for part in (section.parts if section else ()) if isinstance(part, Figure))

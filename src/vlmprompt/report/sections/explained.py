"""What `vlmprompt explain` has drawn of the runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from vlmprompt.errors import InputError
from vlmprompt.report.explained import Drawn, Explained, ExplainedFigure, ExplainedImage
from vlmprompt.report.run import ReportRun
from vlmprompt.report.section import Part, Picture, Pictures, Section, Table, Text
from vlmprompt.report.thumbnails import drawn

ROOM = 900_000  # bytes of the pictures of all runs, before they become text
_INTRO = "Drawn by 'vlmprompt explain'; large pictures are made smaller here, the files themselves are in the folder."


def section(runs: Sequence[ReportRun]) -> Section | None:
    """Pictures and tables of each run that was explained, as many as there is room for, which they share."""
    explained = [(run, run.explained) for run in runs if run.explained is not None]
    several = len(explained) > 1
    parts = [
        part
        for run, found in explained
        for part in _parts(run.name if several else "", found, _Room(ROOM // len(explained)))
    ]
    return Section("explained", "Where it looks", _INTRO, tuple(parts)) if parts else None


class _Room:
    """Bytes that are left for pictures."""

    def __init__(self, size: int) -> None:
        self.left = size

    def take(self, size: int) -> bool:
        """Whether there was room; what was refused takes none."""
        if size > self.left:
            return False
        self.left -= size
        return True


def _parts(name: str, found: Explained, room: _Room) -> Iterator[Part]:
    behind = f", {name}" if name else ""
    lost: list[str] = []
    for figure in found.figures:
        picture = _loaded(found.folder, figure.file, room, lost, _told(figure))
        if picture is not None:
            yield Pictures(f"{figure.title}{behind}", (picture,), wide=True)
    for image in found.images:
        loaded = [_loaded(found.folder, one.file, room, lost, _said(image, one)) for one in image.pictures]
        pictures = tuple(picture for picture in loaded if picture is not None)
        if pictures:
            yield Pictures(f"{image.id}{behind}", pictures, _verdict(image), wide=True)
    for table in found.tables:
        rows = tuple(tuple(_text(cell) for cell in row) for row in table.rows)
        yield Table(f"{table.title}{behind}", table.columns, rows, table.caption, labels=len(table.columns))
    if lost:
        yield Text(f"Left out{behind}: {'; '.join(lost)}.")


def _loaded(folder: Path, file: str, room: _Room, lost: list[str], lines: tuple[str, ...]) -> Picture | None:
    path = folder / file
    if not path.resolve().is_relative_to(folder.resolve()):
        lost.append(f"{file} lies outside of {folder}")
        return None
    try:
        data, kind, width, height = drawn(path)
    except InputError as error:
        lost.append(error.told)
        return None
    if not room.take(len(data)):
        lost.append(f"{path}, for want of room")
        return None
    return Picture(data, kind, width, height, ", ".join(lines) or file, lines)


def _said(image: ExplainedImage, one: Drawn) -> tuple[str, ...]:
    pointing = "" if one.pointing is None else f"pointing score {one.pointing:.3f}"
    pointing += "" if one.pointing is None or one.chance is None else f" (chance {one.chance:.3f})"
    return tuple(line for line in (one.title, one.caption, pointing) if line)


def _told(figure: ExplainedFigure) -> tuple[str, ...]:
    return (figure.caption,) if figure.caption else ()


def _verdict(image: ExplainedImage) -> str:
    """What was said of an image, and what it is."""
    sure = "" if image.probability is None else f" {image.probability:.1%}"
    true = "" if image.true is None else "; that is right" if image.true == image.predicted else f"; is {image.true}"
    return f"said {image.predicted}{sure}{true}"


def _text(cell: object) -> str:
    if cell is None:
        return "–"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)

"""From figures to pixels: filled polygons on a canvas four times as fine as the picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageDraw

from vlmprompt.doodles.colours import RGB, shaded
from vlmprompt.doodles.figure import Figure, Mark

SIZE = 64  # pixels, each side of a picture
FINE = 4  # canvas pixels a pixel
CANVAS = SIZE * FINE

Pixels = npt.NDArray[np.uint8]
Grid = npt.NDArray[np.int64]
Cuts = tuple[int, ...]  # see `Figure.cuts`
Corners = list[int]  # x, y, x, y, ... of one outline, which ends with its first two points once more
Ink4 = tuple[int, int, int, int]  # colour and opacity
_NOTHING: Ink4 = (0, 0, 0, 0)
_DARK = 110  # mean level; sketches fill small shapes below it
_SMALL = CANVAS * CANVAS // 16  # area of their boxes


@dataclass(frozen=True)
class Ink:
    """How marks are coloured.

    Attributes:
        edge: colour of outlines; None: each fill's own, darker.
        width: of outlines in canvas pixels; 0: none.
        flat: one colour for everything (silhouettes).
        paper: fill of everything but lines and small dark shapes (sketches).
    """

    edge: RGB | None = None
    width: int = 0
    flat: RGB | None = None
    paper: RGB | None = None

    def colours(self, mark: Mark, area: float) -> tuple[RGB | None, RGB | None]:
        """Fill and outline of a mark; a fill of None is a hole, an outline of None is none.

        Args:
            area: of the mark's box, canvas pixels.
        """
        if self.flat is not None:
            return (None if mark.colour is None else self.flat), None
        if self.paper is not None:
            if mark.colour is None:
                return None, self.edge
            solid = mark.line or (area < _SMALL and sum(mark.colour) < 3 * _DARK)
            return (self.edge, None) if mark.fine and solid else (self.paper, self.edge)
        if mark.fine or mark.inside or not self.width:
            return mark.colour, None
        edge = self.edge if mark.colour is None else self.edge or shaded(mark.colour, -3)
        return mark.colour, edge


def blank() -> Image.Image:
    """An empty canvas: colour premultiplied by opacity, and opacity (Pillow averages all four alike)."""
    return Image.new("RGBX", (CANVAS, CANVAS))


def draw_figure(canvas: Image.Image, figure: Figure, ink: Ink) -> None:
    """Draw a figure whose coordinates are canvas pixels."""
    draw = ImageDraw.Draw(canvas)
    grid = np.floor(figure.points + 0.5).astype(np.int64)
    flat = grid.T.ravel().tolist()
    group, base = -1, list[Cuts]()
    for mark, cuts in zip(figure.marks, figure.cuts, strict=True):
        if mark.group != group:
            group, base = mark.group, []
        fill, edge = ink.colours(mark, figure.area(cuts) if ink.paper else 0)
        if mark.inside:
            _draw_inside(canvas, grid, base, cuts, fill, edge, ink.width)
            continue
        rings = _rings(flat, cuts)
        if edge is not None:
            _outline(draw, rings, (*edge, 255), ink.width)
        _fill(draw, rings, _NOTHING if fill is None else (*fill, 255))
        base.append(cuts)


def pixels(canvas: Image.Image) -> Pixels:
    """The canvas at the picture's size, (SIZE, SIZE, bands)."""
    return np.asarray(canvas.reduce(FINE))


def _rings(flat: list[int], cuts: Cuts) -> list[Corners]:
    """The outlines of a mark among x, y, x, y, ... of its figure."""
    return [flat[2 * start : 2 * end] for start, end in pairwise(cuts)]


def _fill(draw: ImageDraw.ImageDraw, rings: Iterable[Corners], ink: Ink4 | int) -> None:
    for ring in rings:
        draw.polygon(ring[:-4], fill=ink)


def _outline(draw: ImageDraw.ImageDraw, rings: Iterable[Corners], ink: Ink4 | int, width: int) -> None:
    """Before filling, so that half of it is covered and overlapping rings have one outline together."""
    for ring in rings:
        draw.line(ring, fill=ink, width=2 * width)


def _draw_inside(
    canvas: Image.Image, grid_2N: Grid, base: Sequence[Cuts], cuts: Cuts, fill: RGB | None, edge: RGB | None, width: int
) -> None:
    """Draw a mark where the base marks are."""
    mine = grid_2N[:, cuts[0] : cuts[-1]]
    (left, top), (right, bottom) = mine.min(axis=1).tolist(), mine.max(axis=1).tolist()
    left, top = max(left - width, 0), max(top - width, 0)
    right, bottom = min(right + width + 1, CANVAS), min(bottom + width + 1, CANVAS)
    if right <= left or bottom <= top:
        return
    box = (left, top, right, bottom)
    flat = (grid_2N - [[left], [top]]).T.ravel().tolist()
    where, inner = _mask(box), _mask(box)
    pen = ImageDraw.Draw(where)
    for other in base:
        _fill(pen, _rings(flat, other), 255)
    rings, pen = _rings(flat, cuts), ImageDraw.Draw(inner)
    if edge is not None:
        _outline(pen, rings, 255, width)
        canvas.paste((*edge, 255), box, ImageChops.darker(where, inner))
        pen.rectangle((0, 0, *inner.size), fill=0)
    _fill(pen, rings, 255)
    canvas.paste(_NOTHING if fill is None else (*fill, 255), box, ImageChops.darker(where, inner))


def _mask(box: tuple[int, int, int, int]) -> Image.Image:
    return Image.new("L", (box[2] - box[0], box[3] - box[1]))

"""From figures to pixels: filled polygons on a canvas four times as fine as the picture."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from vlmprompt.doodles.colours import RGB, shaded
from vlmprompt.doodles.drawing import Shape
from vlmprompt.doodles.figure import Figure
from vlmprompt.doodles.geometry import Box
from vlmprompt.doodles.sketch import Mark

SIZE = 64  # pixels, each side of a picture
FINE = 4  # canvas pixels a pixel
CANVAS = SIZE * FINE

Pixels = npt.NDArray[np.uint8]
Grid = npt.NDArray[np.int32]
Stretch = tuple[int, Shape]  # where the points of a shape begin among many
Corners = list[int]  # x, y, x, y, ... of one outline, which ends with its first two points once more
Ink4 = tuple[int, int, int, int]  # colour and opacity
_NOTHING: Ink4 = (0, 0, 0, 0)
_DARK = 110  # mean level; sketches fill small shapes below it
_SMALL = CANVAS * CANVAS // 16  # area of their boxes
_spare: list[Image.Image] = []  # empty canvases: of a new one, touching the memory for the first time costs most


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
        shape = mark.shape
        if self.flat is not None:
            return (None if mark.colour is None else self.flat), None
        if self.paper is not None:
            if mark.colour is None:
                return None, self.edge
            solid = shape.line or (area < _SMALL and sum(mark.colour) < 3 * _DARK)
            return (self.edge, None) if shape.fine and solid else (self.paper, self.edge)
        if shape.fine or shape.inside or not self.width:
            return mark.colour, None
        edge = self.edge if mark.colour is None else self.edge or shaded(mark.colour, -3)
        return mark.colour, edge


def blank() -> Image.Image:
    """An empty canvas: colour premultiplied by opacity, and opacity (Pillow averages all four alike)."""
    return Image.new("RGBX", (CANVAS, CANVAS))


def drawn(figure: Figure, ink: Ink, box: Box) -> Pixels:
    """A figure by itself whose coordinates are canvas pixels: (SIZE, SIZE, 4), colour premultiplied, and opacity.

    Args:
        box: around all of the figure's points.
    """
    canvas = _spare.pop() if _spare else blank()
    draw_figure(canvas, figure, ink)
    layer = np.zeros((SIZE, SIZE, 4), dtype=np.uint8)
    left, top, right, bottom = _reach(box, ink.width)
    if left < right and top < bottom:
        patch = canvas.reduce(FINE, (left * FINE, top * FINE, right * FINE, bottom * FINE))
        layer[top:bottom, left:right] = np.asarray(patch)
    canvas.paste(_NOTHING, (0, 0, CANVAS, CANVAS))
    _spare.append(canvas)
    return layer


def _reach(box: Box, width: int) -> tuple[int, int, int, int]:
    """The picture's pixels beyond which nothing is drawn with outlines of a width: left, top, right, bottom."""
    x0, y0, x1, y1 = box
    margin = 2 * width + 2  # twice what an outline takes, with some to spare for rounding
    left, top = max(0, int(x0 - margin) // FINE), max(0, int(y0 - margin) // FINE)
    return left, top, min(SIZE, int(x1 + margin) // FINE + 1), min(SIZE, int(y1 + margin) // FINE + 1)


def draw_figure(canvas: Image.Image, figure: Figure, ink: Ink) -> None:
    """Draw a figure whose coordinates are canvas pixels."""
    draw = ImageDraw.Draw(canvas)
    grid_N2 = np.floor(figure.points.T + 0.5).astype(np.int32, order="C")
    flat: list[int] = grid_N2.ravel().tolist()
    areas = figure.areas() if ink.paper else repeat(0.0)
    last, start, end = -1, 0, 0  # group of the mark before, first point of the group, end of the mark's
    base: list[Stretch] = []
    for mark, area in zip(figure.marks, areas, strict=False):
        shape, _, group = mark
        if group != last:
            last, start, base = group, end, []
        first, end = end, end + shape.size
        fill, edge = ink.colours(mark, area)
        if shape.inside:
            _draw_inside(canvas, grid_N2[start:end], base, (first - start, shape), fill, edge, ink.width)
            continue
        rings = _rings(flat, first, shape)
        if edge is not None:
            _outline(draw, rings, (*edge, 255), ink.width)
        _fill(draw, rings, _NOTHING if fill is None else (*fill, 255))
        base.append((first - start, shape))


def pixels(canvas: Image.Image) -> Pixels:
    """The canvas at the picture's size, (SIZE, SIZE, bands)."""
    return np.asarray(canvas.reduce(FINE))


def _rings(flat: list[int], first: int, shape: Shape) -> list[Corners]:
    """The outlines of a shape among x, y, x, y, ... of many points."""
    rings = []
    for length in shape.lengths:
        rings.append(flat[2 * first : 2 * (first + length)])
        first += length
    return rings


def _fill(draw: ImageDraw.ImageDraw, rings: Iterable[Corners], ink: Ink4 | int) -> None:
    for ring in rings:
        draw.polygon(ring[:-4], fill=ink)


def _outline(draw: ImageDraw.ImageDraw, rings: Iterable[Corners], ink: Ink4 | int, width: int) -> None:
    """Before filling, so that half of it is covered and overlapping rings have one outline together."""
    for ring in rings:
        draw.line(ring, fill=ink, width=2 * width)


def _draw_inside(
    canvas: Image.Image,
    grid_N2: Grid,
    base: Iterable[Stretch],
    mark: Stretch,
    fill: RGB | None,
    edge: RGB | None,
    width: int,
) -> None:
    """Draw a mark where the base marks are."""
    mine = grid_N2[mark[0] :]
    (left, top), (right, bottom) = np.minimum.reduce(mine).tolist(), np.maximum.reduce(mine).tolist()
    left, top = max(left - width, 0), max(top - width, 0)
    right, bottom = min(right + width + 1, CANVAS), min(bottom + width + 1, CANVAS)
    if right <= left or bottom <= top:
        return
    box = (left, top, right, bottom)
    flat: list[int] = (grid_N2 - (left, top)).ravel().tolist()
    where, marked = Image.new("1", (right - left, bottom - top)), canvas.crop(box)
    pen = ImageDraw.Draw(where)
    for first, shape in base:
        _fill(pen, _rings(flat, first, shape), 1)
    rings, pen = _rings(flat, *mark), ImageDraw.Draw(marked)
    if edge is not None:
        _outline(pen, rings, (*edge, 255), width)
    _fill(pen, rings, _NOTHING if fill is None else (*fill, 255))
    canvas.paste(marked, box, where)

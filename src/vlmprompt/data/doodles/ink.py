"""From figures to pixels: filled polygons on a canvas four times as fine as the picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageDraw

from vlmprompt.data.doodles.colours import RGB, shaded
from vlmprompt.data.doodles.figure import Figure, Mark
from vlmprompt.data.doodles.geometry import Ring, bounds

SIZE = 64  # pixels, each side of a picture
FINE = 4  # canvas pixels a pixel
CANVAS = SIZE * FINE

Pixels = npt.NDArray[np.uint8]
Corners = list[tuple[int, int]]
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

    def colours(self, mark: Mark) -> tuple[RGB | None, RGB | None]:
        """Fill and outline of a mark; a fill of None is a hole, an outline of None is none."""
        if self.flat is not None:
            return (None if mark.colour is None else self.flat), None
        if self.paper is not None:
            if mark.fine and mark.colour is not None and (mark.line or _small_and_dark(mark, mark.colour)):
                return self.edge, None
            return (None if mark.colour is None else self.paper), self.edge
        if mark.fine or mark.inside or not self.width:
            return mark.colour, None
        edge = self.edge if mark.colour is None else self.edge or shaded(mark.colour, -3)
        return mark.colour, edge


def _small_and_dark(mark: Mark, colour: RGB) -> bool:
    x0, y0, x1, y1 = bounds(mark.rings)
    return sum(colour) < 3 * _DARK and (x1 - x0) * (y1 - y0) < _SMALL


def blank() -> Image.Image:
    """An empty canvas: colour premultiplied by opacity, and opacity (Pillow averages all four alike)."""
    return Image.new("RGBX", (CANVAS, CANVAS))


def draw_figure(canvas: Image.Image, figure: Figure, ink: Ink) -> None:
    """Draw a figure whose coordinates are canvas pixels."""
    draw = ImageDraw.Draw(canvas)
    group = -1
    base: list[Corners] = []
    for mark in figure.marks:
        if mark.group != group:
            group, base = mark.group, []
        rings = [_corners(ring) for ring in mark.rings]
        fill, edge = ink.colours(mark)
        if mark.inside:
            _draw_inside(canvas, base, rings, fill, edge, ink.width)
        else:
            if edge is not None:
                _outline(draw, rings, (*edge, 255), ink.width)
            _fill(draw, rings, _NOTHING if fill is None else (*fill, 255))
            base += rings


def pixels(canvas: Image.Image) -> Pixels:
    """The canvas at the picture's size, (SIZE, SIZE, bands)."""
    return np.asarray(canvas.reduce(FINE))


def _corners(ring: Ring) -> Corners:
    floor = math.floor
    return [(floor(x + 0.5), floor(y + 0.5)) for x, y in ring]


def _fill(draw: ImageDraw.ImageDraw, rings: Iterable[Corners], ink: Ink4 | int) -> None:
    for ring in rings:
        draw.polygon(ring, fill=ink)


def _outline(draw: ImageDraw.ImageDraw, rings: Iterable[Corners], ink: Ink4 | int, width: int) -> None:
    """Before filling, so that half of it is covered and overlapping rings have one outline together."""
    for ring in rings:
        draw.line(ring + ring[:2], fill=ink, width=2 * width)


def _draw_inside(
    canvas: Image.Image, base: Sequence[Corners], rings: list[Corners], fill: RGB | None, edge: RGB | None, width: int
) -> None:
    """Draw rings where the base rings are."""
    points = [point for ring in rings for point in ring]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    left, top = max(min(xs) - width, 0), max(min(ys) - width, 0)
    right, bottom = min(max(xs) + width + 1, CANVAS), min(max(ys) + width + 1, CANVAS)
    if right <= left or bottom <= top:
        return
    box = (left, top, right, bottom)

    def local(polygons: Iterable[Corners]) -> list[Corners]:
        return [[(x - left, y - top) for x, y in polygon] for polygon in polygons]

    where, inner = _mask(box), _mask(box)
    _fill(ImageDraw.Draw(where), local(base), 255)
    draw = ImageDraw.Draw(inner)
    if edge is not None:
        _outline(draw, local(rings), 255, width)
        canvas.paste((*edge, 255), box, ImageChops.darker(where, inner))
        draw.rectangle((0, 0, *inner.size), fill=0)
    _fill(draw, local(rings), 255)
    canvas.paste(_NOTHING if fill is None else (*fill, 255), box, ImageChops.darker(where, inner))


def _mask(box: tuple[int, int, int, int]) -> Image.Image:
    return Image.new("L", (box[2] - box[0], box[3] - box[1]))

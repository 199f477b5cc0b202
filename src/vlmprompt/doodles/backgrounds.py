"""What is behind the figures: two colours and one of several patterns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from math import floor

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from vlmprompt.doodles.colours import COLOURS, RGB, distance, varied
from vlmprompt.doodles.draws import Draws
from vlmprompt.doodles.geometry import (
    Outlines,
    Ring,
    affine,
    band,
    ellipse,
    maps,
    move,
    rectangle,
    smooth,
    smoothed,
    turn,
)
from vlmprompt.doodles.ink import CANVAS, FINE, SIZE, Grid, Pixels, pixels

# Fills an outline, or R outlines of P points each, (2, R, P), with the pattern's second colour.
Brush = Callable[[Ring | Outlines], None]
Pattern = Callable[[Draws, Brush], None]
_ALL = FINE * FINE  # canvas pixels a pixel
_NONE = np.zeros((SIZE, SIZE), dtype=np.uint8)
_SHARES = np.array([(_ALL - n, n) for n in range(_ALL + 1)])  # of each colour
_MANY = 100  # corners, from which it is worth looking for those that can be spared
_MIDDLE = (CANVAS / 2, CANVAS / 2)
_NEAR = 120  # of 765: a background closer than this to the figure's colours is drawn again


def background(
    draws: Draws, kinds: Sequence[str], palette: Sequence[str], contrast: float, avoid: Sequence[RGB]
) -> Pixels:
    """A pattern in two colours, (SIZE, SIZE, 4); see `mixture`.

    Args:
        kinds: names of `PATTERNS` to choose from.
        palette: names of the colours to choose from.
        contrast: of the pattern, 0 (one colour) to 1 (two of the palette).
        avoid: colours that the first colour should differ from.
    """
    first = _clear_of(avoid, draws, palette)
    other = varied(COLOURS[draws.choice(palette)], draws, 12)
    k = draws.uniform(contrast / 2, contrast)
    r, g, b = (int(p + (q - p) * k) for p, q in zip(first, other, strict=True))
    return mixture(PATTERNS[draws.choice(kinds)], draws, first, (r, g, b))


def mixture(pattern: Pattern, draws: Draws, first: RGB, second: RGB) -> Pixels:
    """A pattern in two colours, (SIZE, SIZE, 4): the fourth band is 0.

    Each pixel is the mean of `FINE` x `FINE` canvas pixels. The second colour's among them are counted, and the mean is
    looked up: the pixels are those of drawing in colours.
    """
    means = (_SHARES @ np.array([(*first, 0), (*second, 0)]) + _ALL // 2) // _ALL
    levels = means.astype(np.uint8).view(np.uint32)[:, 0]  # all bands of a pixel at once
    return levels.take(_counts(pattern, draws)).view(np.uint8).reshape(SIZE, SIZE, 4)


def _counts(pattern: Pattern, draws: Draws) -> Pixels:
    """How many canvas pixels of each pixel a pattern fills, (SIZE, SIZE)."""
    if pattern is plain:
        return _NONE
    canvas = Image.new("L", (CANVAS, CANVAS))
    pattern(draws, _brush(canvas))
    return pixels(canvas)


def _brush(canvas: Image.Image) -> Brush:
    """Fills outlines on a canvas of one band with the number of canvas pixels a pixel has."""
    pen = ImageDraw.Draw(canvas)

    def brush(outline: Ring | Outlines) -> None:
        if isinstance(outline, np.ndarray):
            for corners in _seen(outline):
                pen.polygon(corners, fill=_ALL)
        else:
            pen.polygon([floor(number + 0.5) for point in outline for number in point], fill=_ALL)

    return brush


def _seen(outlines_2RP: Outlines) -> list[list[int]]:
    """The corners, x, y, x, y, ..., of each outline that is not beyond an edge of the canvas with all of them."""
    grid = np.floor(outlines_2RP + 0.5).astype(np.int32)
    there = (grid.max(axis=2) >= 0) & (grid.min(axis=2) < CANVAS)
    kept = grid[:, there[0] & there[1]]
    corners_RP2 = kept.transpose(1, 2, 0)
    if kept.shape[2] < _MANY:
        corners: list[list[int]] = corners_RP2.reshape(len(corners_RP2), -1).tolist()
        return corners
    return [ring[needed].ravel().tolist() for ring, needed in zip(corners_RP2, _needed(kept), strict=True)]


def _needed(grid_2RP: Grid) -> npt.NDArray[np.bool_]:
    """Which corners decide what is seen of the outlines: all but those beyond an edge beside two that are there, too.

    Without them, a scan line meets as many sides left of the canvas as before, or an even number fewer: it fills the
    same. The lowest stay, because Pillow treats an outline's last line otherwise than those before.
    """
    x_RP, y_RP = grid_2RP
    edge_RP = np.select([x_RP < -2, x_RP > CANVAS + 2, y_RP < -2, y_RP > CANVAS + 2], [1, 2, 3, 4])
    needed_RP = (edge_RP == 0) | (y_RP == y_RP.max(axis=1, keepdims=True))
    for beside in (np.roll(edge_RP, 1, axis=1), np.roll(edge_RP, -1, axis=1)):
        needed_RP |= edge_RP != beside
    return needed_RP


def _clear_of(avoid: Sequence[RGB], draws: Draws, palette: Sequence[str]) -> RGB:
    """A colour of the palette unlike those to avoid: the first that will do, or the best of some."""
    best, best_gap = (0, 0, 0), -1
    for _ in range(8):
        colour = varied(COLOURS[draws.choice(palette)], draws, 16)
        gap = min((distance(colour, other) for other in avoid), default=_NEAR)
        if gap > best_gap:
            best, best_gap = colour, gap
        if gap >= _NEAR:
            break
    return best


def plain(draws: Draws, brush: Brush) -> None:
    """Nothing but the first colour."""


def horizon(draws: Draws, brush: Brush) -> None:
    """Ground, with a wavy edge."""
    level, swell = draws.uniform(0.5, 0.85) * CANVAS, draws.uniform(0, 12)
    edge = [(x, level + draws.around(swell)) for x in range(-8, CANVAS + 40, 40)]
    brush((*smooth(edge, closed=False), (CANVAS + 8, CANVAS), (-8, CANVAS)))


def stripes(draws: Draws, brush: Brush) -> None:
    """Straight bands in any direction."""
    step, spin = draws.uniform(24, 70), turn(draws.uniform(0, 180)).about(_MIDDLE)
    share = draws.uniform(0.3, 0.6)
    at = -CANVAS / 4 + draws.uniform(0, step)
    while at < CANVAS * 1.25:
        brush(spin.ring(rectangle(at, -CANVAS / 4, at + share * step, CANVAS * 1.25)))
        at += step


def checks(draws: Draws, brush: Brush) -> None:
    """A chequered cloth."""
    step, spin = draws.uniform(28, 64), turn(draws.uniform(-45, 45)).about(_MIDDLE)
    n = int(CANVAS * 1.5 / step) + 1
    x_R, y_R = (at[:, None] * step - CANVAS / 4 for at in np.nonzero(np.indices((n, n)).sum(axis=0) % 2 == 0))
    corners = [np.hstack([x_R, x_R + step, x_R + step, x_R]), np.hstack([y_R, y_R, y_R + step, y_R + step])]
    brush(spin.points(np.array(corners)))


def dots(draws: Draws, brush: Brush) -> None:
    """Discs in staggered rows."""
    step = draws.uniform(30, 60)
    radius = step * draws.uniform(0.15, 0.35)
    i, j = np.indices(2 * (int(CANVAS / step) + 2,)).reshape(2, -1, 1)
    x, y = np.array(ellipse(0, 0, radius, radius)).T
    brush(np.array([(i + (j % 2) / 2) * step - step / 2 + x, j * step + y]))


def blotches(draws: Draws, brush: Brush) -> None:
    """Irregular patches."""
    angles = [2 * math.pi * i / 7 for i in range(7)]
    across, down = (np.array([function(t) for t in angles]) for function in (math.cos, math.sin))
    middles, spokes = [], []
    for _ in range(draws.integer(4, 10)):
        x, y, r = draws.uniform(0, CANVAS), draws.uniform(0, CANVAS), draws.uniform(14, 52)
        middles.append((x, y))
        spokes.append([r * draws.uniform(0.6, 1.3) for _ in angles])
    length_R7 = np.array(spokes)
    corners_2R7 = np.array(middles).T[..., None] + np.array([length_R7 * across, length_R7 * down])
    brush(smoothed(corners_2R7, closed=True))


def waves(draws: Draws, brush: Brush) -> None:
    """Wavy lines."""
    step, height = draws.uniform(28, 56), draws.uniform(4, 14)
    width, length = step * draws.uniform(0.2, 0.5), draws.uniform(40, 90)
    phase, spin = draws.uniform(0, length), turn(draws.uniform(0, 180)).about(_MIDDLE)
    xs = [-CANVAS / 4 + i * length / 4 - phase for i in range(int(6 * CANVAS / length) + 4)]
    line = np.array([xs, [height * math.sin(i * math.pi / 2) for i in range(len(xs))]])
    wave = band(smoothed(line[:, None], closed=False), width)[:, 0]
    rows = [spin.after(move(0, row * step - CANVAS / 4)) for row in range(int(CANVAS * 1.5 / step) + 1)]
    brush(affine(wave, maps(rows)[..., None]))


def rays(draws: Draws, brush: Brush) -> None:
    """Wedges from one point."""
    x, y, n = draws.uniform(0, CANVAS), draws.uniform(0, CANVAS), draws.integer(5, 11)
    start, far = draws.uniform(0, 2 * math.pi), 2 * CANVAS
    for i in range(n):
        a, b = start + 2 * math.pi * i / n, start + 2 * math.pi * (i + 0.5) / n
        brush(((x, y), (x + far * math.cos(a), y + far * math.sin(a)), (x + far * math.cos(b), y + far * math.sin(b))))


PATTERNS: dict[str, Pattern] = {
    pattern.__name__: pattern for pattern in (plain, horizon, stripes, checks, dots, blotches, waves, rays)
}

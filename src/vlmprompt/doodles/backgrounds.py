"""What is behind the figures: two colours and one of several patterns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from vlmprompt.doodles.colours import COLOURS, RGB, distance, varied
from vlmprompt.doodles.draws import Draws
from vlmprompt.doodles.geometry import Ring, ellipse, move, rectangle, smooth, stroke, turn
from vlmprompt.doodles.ink import CANVAS

Brush = Callable[[Ring], None]  # fills an outline with the pattern's second colour
_MIDDLE = (CANVAS / 2, CANVAS / 2)
_NEAR = 120  # of 765: a background closer than this to the figure's colours is drawn again


def background(
    draws: Draws, kinds: Sequence[str], palette: Sequence[str], contrast: float, avoid: Sequence[RGB]
) -> Image.Image:
    """A canvas with a pattern in two colours.

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
    canvas = Image.new("RGB", (CANVAS, CANVAS), first)
    PATTERNS[draws.choice(kinds)](draws, brush_of(canvas, (r, g, b)))
    return canvas


def brush_of(canvas: Image.Image, colour: RGB) -> Brush:
    """Fills outlines on a canvas with a colour."""
    pen = ImageDraw.Draw(canvas)

    def brush(ring: Ring) -> None:
        pen.polygon(np.floor(np.array(ring) + 0.5).astype(np.int64).ravel().tolist(), fill=colour)

    return brush


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
    for i in range(n):
        for j in range(i % 2, n, 2):
            x, y = i * step - CANVAS / 4, j * step - CANVAS / 4
            brush(spin.ring(rectangle(x, y, x + step, y + step)))


def dots(draws: Draws, brush: Brush) -> None:
    """Discs in staggered rows."""
    step = draws.uniform(30, 60)
    radius = step * draws.uniform(0.15, 0.35)
    for i in range(int(CANVAS / step) + 2):
        for j in range(int(CANVAS / step) + 2):
            brush(ellipse((i + (j % 2) / 2) * step - step / 2, j * step, radius, radius))


def blotches(draws: Draws, brush: Brush) -> None:
    """Irregular patches."""
    for _ in range(draws.integer(4, 10)):
        x, y, r = draws.uniform(0, CANVAS), draws.uniform(0, CANVAS), draws.uniform(14, 52)
        spokes = [(r * draws.uniform(0.6, 1.3), 2 * math.pi * i / 7) for i in range(7)]
        brush(smooth([(x + d * math.cos(t), y + d * math.sin(t)) for d, t in spokes], closed=True))


def waves(draws: Draws, brush: Brush) -> None:
    """Wavy lines."""
    step, height = draws.uniform(28, 56), draws.uniform(4, 14)
    width, length = step * draws.uniform(0.2, 0.5), draws.uniform(40, 90)
    phase, spin = draws.uniform(0, length), turn(draws.uniform(0, 180)).about(_MIDDLE)
    xs = [-CANVAS / 4 + i * length / 4 - phase for i in range(int(6 * CANVAS / length) + 4)]
    line = [(x, height * math.sin(i * math.pi / 2)) for i, x in enumerate(xs)]
    wave = stroke(smooth(line, closed=False), width, width, bent=True)[0]
    for row in range(int(CANVAS * 1.5 / step) + 1):
        brush(spin.after(move(0, row * step - CANVAS / 4)).ring(wave))


def rays(draws: Draws, brush: Brush) -> None:
    """Wedges from one point."""
    x, y, n = draws.uniform(0, CANVAS), draws.uniform(0, CANVAS), draws.integer(5, 11)
    start, far = draws.uniform(0, 2 * math.pi), 2 * CANVAS
    for i in range(n):
        a, b = start + 2 * math.pi * i / n, start + 2 * math.pi * (i + 0.5) / n
        brush(((x, y), (x + far * math.cos(a), y + far * math.sin(a)), (x + far * math.cos(b), y + far * math.sin(b))))


PATTERNS: dict[str, Callable[[Draws, Brush], None]] = {
    pattern.__name__: pattern for pattern in (plain, horizon, stripes, checks, dots, blotches, waves, rays)
}

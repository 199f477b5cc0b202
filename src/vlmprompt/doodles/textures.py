"""Pictures of nothing but a pattern, far from every class."""

from __future__ import annotations

import math

import numpy as np

from vlmprompt.doodles.backgrounds import PATTERNS, Brush, Pattern, mixture
from vlmprompt.doodles.colours import COLOURS, distance, varied
from vlmprompt.doodles.draws import Draws
from vlmprompt.doodles.geometry import arcs, band, ellipse, rectangle, star, turn
from vlmprompt.doodles.ink import CANVAS, SIZE
from vlmprompt.doodles.render import Rendered, image_of

_APART = 150  # of 765: least difference of the two colours
_MIDDLE = (CANVAS / 2, CANVAS / 2)


def render_texture(name: str, draws: Draws) -> Rendered:
    """A pattern of `TEXTURES` in two colours; there is no object, so the mask is empty."""
    first = varied(COLOURS[draws.choice(tuple(COLOURS))], draws, 14)
    rest = [colour for colour in COLOURS.values() if distance(colour, first) >= _APART]
    second = varied(draws.choice(rest), draws, 14)
    picture = mixture(TEXTURES[name], draws, first, second)
    empty = np.zeros((SIZE, SIZE), dtype=np.bool_)
    return Rendered(image_of(picture), empty)


def bricks(draws: Draws, brush: Brush) -> None:
    """Courses of bricks, every other one shifted by half a brick."""
    high = draws.uniform(20, 44)
    wide, gap = high * draws.uniform(1.6, 2.6), draws.uniform(4, 8)
    for row in range(-1, int(CANVAS / high) + 2):
        for i in range(-1, int(CANVAS / wide) + 2):
            x, y = (i + row % 2 / 2) * wide, row * high
            brush(rectangle(x, y, x + wide - gap, y + high - gap))


def zigzag(draws: Draws, brush: Brush) -> None:
    """Parallel zigzag bands."""
    step, spin = draws.uniform(28, 60), turn(draws.uniform(-15, 15) + 90 * draws.integer(0, 1)).about(_MIDDLE)
    reach = draws.uniform(14, 40)
    xs = [-CANVAS / 2 + i * reach for i in range(int(2 * CANVAS / reach) + 2)]
    for row in range(-3, int(CANVAS * 1.5 / step) + 3):
        y = row * step - CANVAS / 4
        upper = [(x, y + reach / 2 * (-1) ** i) for i, x in enumerate(xs)]
        lower = [(x, v + step * 0.45) for x, v in reversed(upper)]
        brush(spin.ring((*upper, *lower)))


def scales(draws: Draws, brush: Brush) -> None:
    """Overlapping half rings in rows."""
    r = draws.uniform(20, 40)
    width = r * draws.uniform(0.2, 0.4)
    rows, columns = range(-1, int(CANVAS / r) + 3), range(-1, int(CANVAS / (2 * r)) + 2)
    centres = [((2 * i + row % 2) * r, row * r) for row in rows for i in columns]
    n = len(centres)
    brush(band(arcs(centres, [r - width / 2] * n, [(0, 180)] * n), width))


def rings(draws: Draws, brush: Brush) -> None:
    """Circles around one point."""
    x, y = draws.uniform(0, CANVAS), draws.uniform(0, CANVAS)
    step, share = draws.uniform(20, 48), draws.uniform(0.35, 0.6)
    n = int(1.5 * CANVAS / step)
    circles = arcs([(x, y)] * n, [i * step for i in range(1, n + 1)], [(0, 360)] * n)
    brush(band(circles, step * share))


def spiral(draws: Draws, brush: Brush) -> None:
    """One line that winds outwards."""
    x, y = (draws.uniform(0.3, 0.7) * CANVAS for _ in range(2))
    step, start = draws.uniform(26, 50), draws.uniform(0, 360)
    turns = int(1.1 * CANVAS / step) + 1
    steps = []
    for k in range(24 * turns):
        (r0, a0), (r1, a1) = ((step * i / 24, math.radians(start + 15 * i)) for i in (k, k + 1.1))
        steps.append(((x + r0 * math.cos(a0), y + r0 * math.sin(a0)), (x + r1 * math.cos(a1), y + r1 * math.sin(a1))))
    brush(band(np.array(steps).transpose(2, 0, 1), step * 0.45))


def lattice(draws: Draws, brush: Brush) -> None:
    """Two sets of thin crossing lines."""
    step, width = draws.uniform(24, 52), draws.uniform(5, 10)
    first = draws.uniform(0, 180)
    for angle in (first, first + draws.uniform(60, 120)):
        spin = turn(angle).about(_MIDDLE)
        for i in range(-int(CANVAS / step), 2 * int(CANVAS / step) + 1):
            brush(spin.ring(rectangle(i * step, -CANVAS, i * step + width, 2 * CANVAS)))


def triangles(draws: Draws, brush: Brush) -> None:
    """Triangles in rows."""
    step, spin = draws.uniform(28, 56), turn(draws.uniform(0, 120)).about(_MIDDLE)
    high = step * 0.87
    for row in range(-3, int(1.3 * CANVAS / high) + 2):
        for i in range(-3, int(1.3 * CANVAS / step) + 2):
            x, y = (i + row % 2 / 2) * step, row * high
            brush(spin.ring(((x, y + high), (x + step / 2, y), (x + step, y + high))))


def confetti(draws: Draws, brush: Brush) -> None:
    """Scraps thrown at random."""
    size = draws.uniform(9, 18)
    for _ in range(draws.integer(60, 120)):
        at = (draws.uniform(0, CANVAS), draws.uniform(0, CANVAS))
        scrap = rectangle(at[0] - size, at[1] - size / 2.5, at[0] + size, at[1] + size / 2.5)
        brush(turn(draws.uniform(0, 180)).about(at).ring(scrap))


def starry(draws: Draws, brush: Brush) -> None:
    """Small stars in staggered rows."""
    step = draws.uniform(40, 70)
    outer, tips = step * draws.uniform(0.25, 0.4), draws.integer(4, 7)
    for i in range(int(CANVAS / step) + 2):
        for j in range(int(CANVAS / step) + 2):
            brush(star((i + j % 2 / 2) * step, j * step, outer, outer * 0.42, tips))


def maze(draws: Draws, brush: Brush) -> None:
    """Tiles of two quarter rings each, laid in either direction (Truchet)."""
    step = draws.uniform(32, 60)
    width = step * draws.uniform(0.2, 0.4)
    centres, spans = [], []
    for i in range(int(CANVAS / step) + 1):
        for j in range(int(CANVAS / step) + 1):
            x, y = i * step, j * step
            if draws.chance(0.5):
                centres += [(x + step, y), (x, y + step)]
                spans += [(90, 180), (270, 360)]
            else:
                centres += [(x, y), (x + step, y + step)]
                spans += [(0, 90), (180, 270)]
    brush(band(arcs(centres, [step / 2] * len(centres), spans), width))


def static(draws: Draws, brush: Brush) -> None:
    """Noise of square grains."""
    step = draws.choice((8, 12, 16))
    bits = draws.octets((CANVAS // step + 1) ** 2)
    share = draws.integer(90, 160)
    for k, octet in enumerate(bits):
        if octet < share:
            x, y = k % (CANVAS // step + 1) * step, k // (CANVAS // step + 1) * step
            brush(rectangle(x, y, x + step - 1, y + step - 1))


def ovals(draws: Draws, brush: Brush) -> None:
    """Slanted ovals in a grid."""
    step, lean = draws.uniform(34, 60), draws.uniform(0, 180)
    long, short = step * draws.uniform(0.4, 0.5), step * draws.uniform(0.14, 0.24)
    for i in range(int(CANVAS / step) + 2):
        for j in range(int(CANVAS / step) + 2):
            at = (i * step, j * step)
            brush(turn(lean + 90 * ((i + j) % 2)).about(at).ring(ellipse(*at, long, short)))


TEXTURES: dict[str, Pattern] = {
    **{name: PATTERNS[name] for name in ("stripes", "checks", "dots", "waves", "rays")},
    **{
        pattern.__name__: pattern
        for pattern in (
            bricks,
            zigzag,
            scales,
            rings,
            spiral,
            lattice,
            triangles,
            confetti,
            starry,
            maze,
            static,
            ovals,
        )
    },
}

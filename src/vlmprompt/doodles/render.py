"""Pictures as pure functions of a key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from vlmprompt.doodles.backgrounds import background
from vlmprompt.doodles.colours import COLOURS, varied
from vlmprompt.doodles.domains import Style
from vlmprompt.doodles.drawing import Drawing
from vlmprompt.doodles.draws import Draws
from vlmprompt.doodles.figure import Figure, figure, placed, posed
from vlmprompt.doodles.ink import CANVAS, SIZE, Ink, Pixels, blank, draw_figure, pixels
from vlmprompt.doodles.parse import drawings

_MOST_COVERED = 0.25  # share of the object that a thing in front may hide
_MOST_CUT = 2 / 7  # of half the object's side, that may lie beyond the picture


@dataclass(frozen=True)
class Rendered:
    """A picture and what is known of it.

    Attributes:
        image: RGB, 64 x 64.
        mask: (64, 64), True where the object is seen.
        box: left, top, right, bottom of the mask; right and bottom are one beyond.
        colours: slot of the drawing -> name of the colour it got.
        phrases: of the parts that were drawn, whether or not something hides them.
    """

    image: Image.Image
    mask: npt.NDArray[np.bool_]
    box: tuple[int, int, int, int]
    colours: Mapping[str, str] = field(default_factory=dict)
    phrases: tuple[str, ...] = ()


def render_drawing(drawing: Drawing, style: Style, draws: Draws) -> Rendered:
    """The drawing as the object of a picture in some style."""
    fig = posed(figure(drawing, draws.fork("figure")), drawing, style.pose, draws.fork("pose"))
    fig = _in_frame(fig, style.size, style.outside, draws.fork("place"))
    ink = _ink(style, fig, draws.fork("ink"))
    behind = _behind(fig, style, ink, draws.fork("behind"))
    canvas = blank()
    draw_figure(canvas, fig, ink)
    layer = pixels(canvas)
    seen = layer[..., 3]
    picture = _lit(behind, layer, style, draws.fork("light"))
    front = _in_front(fig, seen, style, ink, draws.fork("front"))
    if front is not None:
        picture = _over(picture, front)
        seen = _scaled(seen, 255 - front[..., 3])
    if style.night:
        picture = _darkened(picture, draws.fork("night"))
    mask = seen >= 128
    return Rendered(Image.fromarray(picture), mask, _box(mask), fig.colours, fig.phrases)


def _ink(style: Style, fig: Figure, draws: Draws) -> Ink:
    width = draws.choice(style.edges)
    if style.technique == "sketch":
        dark = varied(COLOURS[draws.choice(("black", "charcoal", "navy", "dark brown"))], draws, 10)
        paper = varied(COLOURS[draws.choice(("white", "cream"))], draws, 6)
        return Ink(edge=dark, width=width, paper=paper)
    if style.technique == "silhouette":
        return Ink(
            flat=varied(COLOURS[draws.choice(("black", "navy", "dark brown", "purple", "dark green"))], draws, 10)
        )
    return Ink(edge=varied(COLOURS["black"], draws, 12) if draws.chance(0.5) else None, width=width)


def _in_frame(fig: Figure, size: tuple[float, float], outside: float, draws: Draws) -> Figure:
    """The figure at a random size and place, reaching beyond the canvas as little as `outside` asks."""
    fig = placed(fig, draws.uniform(*size) * CANVAS, (0, 0))
    _, _, x1, y1 = fig.bounds
    room_x, room_y = (max(0.0, CANVAS / 2 - half + min(CANVAS * outside, half * _MOST_CUT)) for half in (x1, y1))
    centre = (CANVAS / 2 + draws.around(room_x), CANVAS / 2 + draws.around(room_y))
    return placed(fig, 2 * max(x1, y1), centre)


def _behind(fig: Figure, style: Style, ink: Ink, draws: Draws) -> Pixels:
    """Background and small things, (SIZE, SIZE, 3)."""
    avoid = [ink.flat] if ink.flat else fig.main_colours
    canvas = background(draws, style.kinds, style.palette, style.contrast, avoid)
    things = draws.integer(*style.clutter)
    if not things:
        return pixels(canvas)
    clutter = blank()
    for _ in range(things):
        centre = (draws.uniform(0, CANVAS), draws.uniform(0, CANVAS))
        draw_figure(clutter, _small_thing(style, centre, draws), ink)
    return _over(pixels(canvas), pixels(clutter))


def _in_front(fig: Figure, seen: Pixels, style: Style, ink: Ink, draws: Draws) -> Pixels | None:
    """A small thing over the edge of the object, (SIZE, SIZE, 4), unless it hides too much."""
    if not draws.chance(style.cover):
        return None
    x0, y0, x1, y1 = fig.bounds
    side = draws.integer(0, 3)
    along = draws.uniform(0.15, 0.85)
    x = (x0, x1)[side] if side < 2 else x0 + along * (x1 - x0)
    y = (y0, y1)[side - 2] if side >= 2 else y0 + along * (y1 - y0)
    inwards = draws.uniform(0.05, 0.25)
    centre = (x + inwards * ((x0 + x1) / 2 - x), y + inwards * ((y0 + y1) / 2 - y))
    canvas = blank()
    draw_figure(canvas, _small_thing(style, centre, draws), ink)
    front = pixels(canvas)
    hidden = int(_scaled(seen, front[..., 3]).sum())
    return front if hidden <= _MOST_COVERED * int(seen.sum()) else None


def _small_thing(style: Style, centre: tuple[float, float], draws: Draws) -> Figure:
    drawing = draws.choice(tuple(drawings("clutter").values()))
    fig = posed(figure(drawing, draws), drawing, style.pose, draws)
    return placed(fig, draws.uniform(*style.clutter_size) * CANVAS, centre)


def _lit(behind: Pixels, layer: Pixels, style: Style, draws: Draws) -> Pixels:
    """The object over the background, with a shadow, a darker rim, and light from one side."""
    dx, dy = draws.integer(-3, 3), draws.integer(1, 4)
    seen = layer[..., 3]
    if draws.chance(style.shadow):
        behind = _dimmed(behind, _shifted(seen, dx, dy), draws.integer(50, 110))
        layer = layer.copy()
        rim = seen - np.minimum(seen, _shifted(seen, -dx, -dy))
        layer[..., :3] = _dimmed(layer[..., :3], rim, draws.integer(30, 80))
    picture = _over(behind, layer).astype(np.int32)
    slope_x, slope_y = (int(draws.around(style.light) * 256) for _ in range(2))
    steps = np.arange(SIZE, dtype=np.int32) - SIZE // 2
    gain = 256 + (slope_x * steps[None, :] + slope_y * steps[:, None]) // SIZE + draws.integer(-16, 16)
    return np.clip(picture * gain[..., None] >> 8, 0, 255).astype(np.uint8)


def _darkened(picture: Pixels, draws: Draws) -> Pixels:
    """Night: little light of one colour, and a camera's noise."""
    cast = draws.choice(((70, 80, 130), (60, 100, 110), (110, 78, 60), (85, 70, 120)))
    strength = draws.uniform(0.8, 1.15)
    levels = np.array([int(c * strength) for c in cast], dtype=np.int32)
    raw = np.frombuffer(draws.octets(2 * picture.size), dtype=np.uint8).astype(np.int32)
    noise = (raw[: picture.size] - raw[picture.size :]).reshape(picture.shape)
    dim = (picture.astype(np.int32) * levels >> 8) + 6 + (noise * draws.integer(14, 26) >> 8)
    return np.clip(dim, 0, 255).astype(np.uint8)


def _over(below: Pixels, layer: Pixels) -> Pixels:
    """A layer of premultiplied colour over a picture."""
    return layer[..., :3] + _scaled(below, 255 - layer[..., 3:])


def _dimmed(picture: Pixels, where: Pixels, strength: int) -> Pixels:
    return _scaled(picture, 255 - _scaled(where, np.uint8(strength))[..., None])


def _scaled(values: Pixels, by: Pixels | np.uint8) -> Pixels:
    """values * by / 255, rounded, in integers."""
    return ((values.astype(np.uint16) * by + 127) // 255).astype(np.uint8)


def _shifted(values: Pixels, dx: int, dy: int) -> Pixels:
    moved = np.zeros_like(values)
    height, width = values.shape
    moved[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)] = values[
        max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)
    ]
    return moved


def _box(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    if not mask.any():
        return 0, 0, 0, 0
    xs, ys = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1

"""Pictures as pure functions of a key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from vlmprompt.doodles.backgrounds import background
from vlmprompt.doodles.colours import COLOURS, varied
from vlmprompt.doodles.domains import Style
from vlmprompt.doodles.drawing import Drawing
from vlmprompt.doodles.draws import Draws
from vlmprompt.doodles.figure import Figure, Thing, crowd, figure, placing, posed, stance
from vlmprompt.doodles.geometry import Box, Point, bounds
from vlmprompt.doodles.ink import CANVAS, SIZE, Ink, Pixels, drawn
from vlmprompt.doodles.parse import drawings
from vlmprompt.doodles.sketch import sketch

_MOST_COVERED = 0.25  # share of the object that a thing in front may hide
_MOST_CUT = 2 / 7  # of half the object's side, that may lie beyond the picture

_STEPS = np.arange(SIZE, dtype=np.int32) - SIZE // 2  # from the middle
_STEPS_OF_BANDS = _STEPS.repeat(4)


@dataclass(frozen=True)
class Rendered:
    """A picture and what is known of it.

    Attributes:
        image: RGB, 64 x 64.
        mask: (64, 64), True where the object is seen.
        colours: slot of the drawing -> name of the colour it got.
        phrases: of the parts that were drawn, whether or not something hides them.
    """

    image: Image.Image
    mask: npt.NDArray[np.bool_]
    colours: Mapping[str, str] = field(default_factory=dict)
    phrases: tuple[str, ...] = ()

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the mask; right and bottom are one beyond. Zeros where nothing is seen."""
        xs, ys = (np.flatnonzero(self.mask.any(axis=axis)).tolist() for axis in (0, 1))
        return (xs[0], ys[0], xs[-1] + 1, ys[-1] + 1) if xs else (0, 0, 0, 0)


def render_drawing(drawing: Drawing, style: Style, draws: Draws) -> Rendered:
    """The drawing as the object of a picture in some style."""
    fig = posed(figure(drawing, draws.fork("figure")), drawing, style.pose, draws.fork("pose"))
    fig, box = _in_frame(fig, style.size, style.outside, draws.fork("place"))
    ink = _ink(style, fig, draws.fork("ink"))
    behind = _behind(fig, style, ink, draws.fork("behind"))
    layer = drawn(fig, ink, box)
    seen = layer[..., 3].copy()
    picture = _lit(behind, layer, seen, style, draws.fork("light"))
    front = _in_front(box, seen, style, ink, draws.fork("front"))
    if front is not None:
        picture = _over(picture, front)
        seen = _scaled(seen, 255 - front[..., 3])
    image = image_of(picture)
    if style.night:
        image = _darkened(image, draws.fork("night"))
    return Rendered(image, seen >= 128, fig.colours, fig.phrases)


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


def _in_frame(fig: Figure, size: tuple[float, float], outside: float, draws: Draws) -> tuple[Figure, Box]:
    """The figure at a random size and place, reaching beyond the canvas as little as `outside` asks; and its box."""
    bounds = fig.bounds
    first = placing(bounds, draws.uniform(*size) * CANVAS, (0, 0))
    box = first.box(bounds)
    _, _, x1, y1 = box
    room_x, room_y = (max(0.0, CANVAS / 2 - half + min(CANVAS * outside, half * _MOST_CUT)) for half in (x1, y1))
    centre = (CANVAS / 2 + draws.around(room_x), CANVAS / 2 + draws.around(room_y))
    second = placing(box, 2 * max(x1, y1), centre)
    return fig.scaled(first, second), second.box(box)


def _behind(fig: Figure, style: Style, ink: Ink, draws: Draws) -> Pixels:
    """Background and small things, (SIZE, SIZE, 4)."""
    avoid = [ink.flat] if ink.flat else fig.main_colours
    picture = background(draws, style.kinds, style.palette, style.contrast, avoid)
    things: list[Thing] = []
    marks = 0
    for _ in range(draws.integer(*style.clutter)):
        centre = (draws.uniform(0, CANVAS), draws.uniform(0, CANVAS))
        things.append(_small_thing(style, centre, draws, marks))
        marks += len(things[-1].sketch.marks)
    if not things:
        return picture
    squares = [thing.square for thing in things]
    return _over(picture, drawn(crowd(things), ink, bounds((square[:2], square[2:]) for square in squares)))


def _in_front(box: Box, seen: Pixels, style: Style, ink: Ink, draws: Draws) -> Pixels | None:
    """A small thing over the edge of the object, (SIZE, SIZE, 4), unless it hides too much."""
    if not draws.chance(style.cover):
        return None
    x0, y0, x1, y1 = box
    side = draws.integer(0, 3)
    along = draws.uniform(0.15, 0.85)
    x = (x0, x1)[side] if side < 2 else x0 + along * (x1 - x0)
    y = (y0, y1)[side - 2] if side >= 2 else y0 + along * (y1 - y0)
    inwards = draws.uniform(0.05, 0.25)
    centre = (x + inwards * ((x0 + x1) / 2 - x), y + inwards * ((y0 + y1) / 2 - y))
    thing = _small_thing(style, centre, draws)
    front = drawn(crowd([thing]), ink, thing.square)
    hidden = int(_scaled(seen, front[..., 3]).sum())
    return front if hidden <= _MOST_COVERED * int(seen.sum()) else None


def _small_thing(style: Style, centre: Point, draws: Draws, group: int = 0) -> Thing:
    drawing = draws.choice(_small_drawings())
    made, stands = sketch(drawing, draws, group), stance(drawing, style.pose, draws)
    return Thing(made, stands, draws.uniform(*style.clutter_size) * CANVAS, centre)


@cache
def _small_drawings() -> tuple[Drawing, ...]:
    return tuple(drawings("clutter").values())


def _lit(behind: Pixels, layer: Pixels, seen: Pixels, style: Style, draws: Draws) -> Pixels:
    """The object over the background, with a shadow, a darker rim, and light from one side."""
    dx, dy = draws.integer(-3, 3), draws.integer(1, 4)
    if draws.chance(style.shadow):
        behind = _dimmed(behind, _shifted(seen, dx, dy), draws.integer(50, 110))
        rim = seen - np.minimum(seen, _shifted(seen, -dx, -dy))
        layer = _dimmed(layer, rim, draws.integer(30, 80))
    picture = _over(behind, layer, seen).astype(np.int32)
    slope_x, slope_y = (int(draws.around(style.light) * 256) for _ in range(2))
    along = slope_x * _STEPS_OF_BANDS + SIZE * (256 + draws.integer(-16, 16))
    gain = along + slope_y * _STEPS[:, None]
    gain //= SIZE
    picture *= gain.reshape(picture.shape)
    picture >>= 8
    return np.clip(picture, 0, 255, out=picture).astype(np.uint8)


def _darkened(image: Image.Image, draws: Draws) -> Image.Image:
    """Night: little light of one colour, and a camera's noise."""
    cast = draws.choice(((70, 80, 130), (60, 100, 110), (110, 78, 60), (85, 70, 120)))
    strength = draws.uniform(0.8, 1.15)
    levels = np.array([int(c * strength) for c in cast] * SIZE, dtype=np.uint16)  # below 256; of a row of pixels
    picture = np.asarray(image).reshape(SIZE, -1)
    raw = np.frombuffer(draws.octets(2 * picture.size), dtype=np.uint8).astype(np.int16)
    noise = (raw[: picture.size] - raw[picture.size :]).reshape(picture.shape)
    dim = (picture * levels >> 8).astype(np.int16) + 6 + (noise * draws.integer(14, 26) >> 8)
    return Image.frombytes("RGB", image.size, np.clip(dim, 0, 255).astype(np.uint8).tobytes())


def _over(below: Pixels, layer: Pixels, opacity: Pixels | None = None) -> Pixels:
    """A layer of premultiplied colour over a picture."""
    return layer + _scaled(below, ~_in_bands(layer[..., 3] if opacity is None else opacity))


def _dimmed(picture: Pixels, where: Pixels, strength: int) -> Pixels:
    return _scaled(picture, _in_bands(255 - _scaled(where, np.uint8(strength))))


def _in_bands(values: Pixels) -> Pixels:
    """(SIZE, SIZE) four times: (SIZE, SIZE, 4)."""
    return (values * np.uint32(0x01010101)).view(np.uint8).reshape(*values.shape, 4)


def _scaled(values: Pixels, by: Pixels | np.uint8) -> Pixels:
    """values * by / 255, rounded, in integers."""
    product = values.astype(np.uint16)
    product *= by
    product += 127
    product //= 255
    return product.astype(np.uint8)


def _shifted(values: Pixels, dx: int, dy: int) -> Pixels:
    moved = np.zeros_like(values)
    height, width = values.shape
    moved[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)] = values[
        max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)
    ]
    return moved


def image_of(picture: Pixels) -> Image.Image:
    """(SIZE, SIZE, 4) without its last band, RGB."""
    return Image.frombytes("RGB", (SIZE, SIZE), picture.tobytes(), "raw", "RGBX")

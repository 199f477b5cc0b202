"""Scenes without classes: shape x colour x pattern x count x relation, so that the text tower has words for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vlmprompt.doodles.colours import COLOURS
from vlmprompt.doodles.drawing import Drawing, Fill, Jitter, Part, Shape
from vlmprompt.doodles.draws import Draws
from vlmprompt.doodles.geometry import Ring, arc, ellipse, grow, move, rectangle, smooth, star, stroke, turn

UNITS = 100.0  # of a drawing's coordinates: the side of a picture

COUNTS = ("a", "two", "three", "four", "five")
Box = tuple[float, float, float, float]
Outline = tuple[Ring, ...]


def _polygon(sides: int) -> Outline:
    angles = [2 * math.pi * (i / sides - 0.25) for i in range(sides)]
    return (tuple((math.cos(t), math.sin(t)) for t in angles),)


def _heart() -> Outline:
    points = [(0, -0.5), (0, -0.5), (0.5, -0.95), (0.98, -0.4), (0.7, 0.3), (0, 0.95), (0, 0.95)]
    return (smooth([*points, *[(-x, y) for x, y in points[4:1:-1]]], closed=True),)


# Outlines within [-1, 1] x [-1, 1]. The last one of a ring cuts a hole: see _HOLES.
SHAPES: Mapping[str, Outline] = {
    "circle": (ellipse(0, 0, 0.95, 0.95),),
    "oval": (ellipse(0, 0, 1, 0.6),),
    "square": (rectangle(-0.85, -0.85, 0.85, 0.85),),
    "rectangle": (rectangle(-1, -0.55, 1, 0.55),),
    "triangle": (((0, -0.95), (0.95, 0.8), (-0.95, 0.8)),),
    "diamond": (((0, -1), (0.7, 0), (0, 1), (-0.7, 0)),),
    "pentagon": _polygon(5),
    "hexagon": _polygon(6),
    "star": (star(0, 0, 1, 0.42, 5),),
    "heart": _heart(),
    "ring": (ellipse(0, 0, 0.95, 0.95), ellipse(0, 0, 0.5, 0.5)),
    "cross": (rectangle(-0.95, -0.3, 0.95, 0.3), rectangle(-0.3, -0.95, 0.3, 0.95)),
    "crescent": (smooth([(0.3, -0.95), (0.3, -0.95), (-0.6, -0.7), (-0.9, 0), (-0.6, 0.7), (0.3, 0.95), (0.3, 0.95),
                         (-0.2, 0.5), (-0.35, 0), (-0.2, -0.5)], closed=True),),
    "arrow": (((-1, -0.3), (0.1, -0.3), (0.1, -0.8), (1, 0), (0.1, 0.8), (0.1, 0.3), (-1, 0.3)),),
    "drop": (smooth([(0, -1), (0, -1), (0.6, 0.2), (0.5, 0.8), (0, 1), (-0.5, 0.8), (-0.6, 0.2)], closed=True),),
    "half circle": (arc(0, 0.45, 1, 1, 180, 360),),
    "cloud": tuple(ellipse(x, y, r, r) for x, y, r in ((-0.5, 0.15, 0.5), (0.5, 0.15, 0.5), (0, -0.2, 0.6))),
    "zigzag": stroke([(-0.95, 0.4), (-0.5, -0.4), (0, 0.4), (0.5, -0.4), (0.95, 0.4)], 0.3, 0.3, bent=False),
    "line": (rectangle(-1, -0.12, 1, 0.12),),
    "dot": (ellipse(0, 0, 0.4, 0.4),),
}  # fmt: skip
_HOLES = ("ring",)
PLURALS = {"cross": "crosses", "half circle": "half circles"}


def _stripes() -> list[Ring]:
    return [rectangle(-1.6, y, 1.6, y + 0.24) for y in (-1.1, -0.62, -0.14, 0.34, 0.82)]


def _bands() -> list[Ring]:
    return [rectangle(x, -1.6, x + 0.3, 1.6) for x in (-0.85, -0.15, 0.55)]


def _spots() -> list[Ring]:
    return [ellipse(x + (j % 2) * 0.25, y, 0.14, 0.14) for j, y in enumerate((-0.75, -0.25, 0.25, 0.75))
            for x in (-0.85, -0.35, 0.15, 0.65)]  # fmt: skip


def _checks() -> list[Ring]:
    step = 0.42
    return [rectangle(x * step, y * step, (x + 1) * step, (y + 1) * step)
            for x in range(-3, 3) for y in range(-3, 3) if (x + y) % 2]  # fmt: skip


PATTERNS: Mapping[str, Callable[[], list[Ring]]] = {
    "": list,
    "striped": _stripes,
    "banded": _bands,
    "spotted": _spots,
    "checked": _checks,
}
RELATIONS = ("above", "below", "to the left of", "to the right of", "inside", "next to")


@dataclass(frozen=True)
class Group:
    """Some equal shapes; a concept of the grammar."""

    count: int
    colour: str
    pattern: str
    shape: str

    @property
    def noun(self) -> str:
        """The shape, in the plural where there are several."""
        return self.shape if self.count == 1 else PLURALS.get(self.shape, f"{self.shape}s")


@dataclass(frozen=True)
class Scene:
    """One group, or one in some relation to another."""

    first: Group
    relation: str | None = None
    second: Group | None = None


def draw_group(draws: Draws, most: int = 5) -> Group:
    """Any group of the grammar."""
    count = min(draws.integer(1, 5), draws.integer(1, 5), most)
    pattern = draws.choice(tuple(PATTERNS)) if draws.chance(0.5) else ""
    return Group(count, draws.choice(tuple(COLOURS)), pattern, draws.choice(tuple(SHAPES)))


def draw_scene(draws: Draws) -> Scene:
    """Any scene of the grammar."""
    first = draw_group(draws)
    if draws.chance(0.5):
        return Scene(first)
    second = draw_group(draws, most=2)
    relation = draws.choice(RELATIONS)
    if relation == "inside":
        second = Group(1, second.colour, "", draws.choice(("circle", "square", "ring", "hexagon", "diamond", "heart")))
    return Scene(first, relation, second)


def scene_drawing(scene: Scene, draws: Draws) -> Drawing:
    """The scene laid out, in the units of drawings."""
    groups = {"first": scene.first} if scene.second is None else {"second": scene.second, "first": scene.first}
    boxes = list(_boxes(scene.relation, draws))
    if scene.relation == "next to" and draws.chance(0.5):
        boxes.reverse()
    parts = [_part(slot, group, box, draws) for (slot, group), box in zip(groups.items(), boxes, strict=True)]
    colours = {slot: (group.colour,) for slot, group in groups.items()}
    return Drawing("scene", "scenes", colours, tuple(parts), turn=0, flip=False)


def _boxes(relation: str | None, draws: Draws) -> Sequence[Box]:
    """Where the groups stand, the one behind (the second of the scene) first; shares of the canvas."""
    low, high = draws.uniform(0.03, 0.1), draws.uniform(0.9, 0.97)
    cut = draws.uniform(0.42, 0.58)
    whole = (low, low, high, high)
    boxes: Mapping[str | None, Sequence[Box]] = {
        None: [whole],
        "above": [(low, cut, high, high), (low, low, high, cut)],
        "below": [(low, low, high, cut), (low, cut, high, high)],
        "to the left of": [(cut, low, high, high), (low, low, cut, high)],
        "to the right of": [(low, low, cut, high), (cut, low, high, high)],
        "next to": [(cut, low, high, high), (low, low, cut, high)],
        "inside": [whole, (0.32, 0.32, 0.68, 0.68)],
    }
    return boxes[relation]


def _part(slot: str, group: Group, box: Box, draws: Draws) -> Part:
    """A group within its box."""
    x0, y0, x1, y1 = (side * UNITS for side in box)
    places = _places(group.count, (x1 - x0) / (y1 - y0))
    columns, rows = (max(axis) + 1 for axis in zip(*places, strict=True))
    cell = min((x1 - x0) / columns, (y1 - y0) / rows)
    left, top = (x0 + x1 - cell * columns) / 2, (y0 + y1 - cell * rows) / 2
    size = cell / 2 * draws.uniform(0.72, 0.92)
    slack, slant, steps = (cell / 2 - size) * 0.8, draws.around(25), _pattern_steps(group, draws)
    copies = []
    for x, y in places:
        centre = move(left + (x + 0.5) * cell + draws.around(slack), top + (y + 0.5) * cell + draws.around(slack))
        place = centre.after(turn(slant + draws.around(6))).after(grow(size, size))
        copies.append(tuple(shape.mapped(place) for shape in _shapes(slot, group, steps)))
    return Part(tuple(copies), (), (group.count, group.count), ((x0 + x1) / 2, (y0 + y1) / 2), Jitter(0, 0, 0))


def _pattern_steps(group: Group, draws: Draws) -> int:
    """How much lighter or darker a pattern is than its shape."""
    return draws.choice((2, 3) if sum(COLOURS[group.colour]) < 400 else (-2, -3))


def _shapes(slot: str, group: Group, steps: int) -> list[Shape]:
    outline, pattern = SHAPES[group.shape], tuple(PATTERNS[group.pattern]())
    holed = group.shape in _HOLES
    shapes = [Shape(outline[:-1] if holed else outline, Fill(slot))]
    if pattern:
        shapes.append(Shape(pattern, Fill(slot, steps), inside=True, fine=True))
    if holed:
        shapes.append(Shape(outline[-1:], Fill(None), fine=True))
    return shapes


def _places(count: int, aspect: float) -> list[tuple[float, float]]:
    """Cells of a group, in a row, a column or a block, whichever fits the box."""
    if count == 1:
        return [(0, 0)]
    if aspect > 1.4 and count < 5:
        return [(i, 0) for i in range(count)]
    if aspect < 0.7 and count < 5:
        return [(0, i) for i in range(count)]
    blocks = {
        2: [(0.0, 0.0), (1.0, 1.0)],
        3: [(0.5, 0.0), (0.0, 1.0), (1.0, 1.0)],
        4: [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)],
        5: [(0.0, 0.0), (2.0, 0.0), (1.0, 1.0), (0.0, 2.0), (2.0, 2.0)],
    }
    return blocks[count]

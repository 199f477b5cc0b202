"""The shapes that drawing files may use: from a table of a TOML file to outlines.

    {ellipse = [cx, cy, rx, ry]}  {circle = [cx, cy, r]}  {rect = [x0, y0, x1, y1], round = r}
    {poly = [x, y, ...]}  {blob = [x, y, ...]}             a polygon; a smooth outline through the points
    {pie = [cx, cy, rx, ry, start, end]}  {chord = ...}    a part of an ellipse, angles in degrees
    {star = [cx, cy, outer, inner, tips]}
    {line = [x, y, ...], width = w}  {curve = ...}  {arc = [cx, cy, rx, ry, start, end], width = [w0, w1]}

Each takes `fill` (a slot or colour, with + or - for lighter or darker; "hole" cuts through), `turn` (degrees
about its middle), `mirror` (adds the mirror image about that x), `repeat` ({n, move, turn, about, grow}),
`inside` (clipped to the part's earlier shapes) and `fine` (without outline).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlmprompt.api import InputError, did_you_mean
from vlmprompt.doodles.drawing import Fill, Shape
from vlmprompt.doodles.geometry import (
    Affine,
    Point,
    Ring,
    arc,
    bounds,
    ellipse,
    grow,
    move,
    rectangle,
    smooth,
    star,
    stroke,
    turn,
)

FINE_WIDTH = 3.5  # units; thinner strokes have no outline
FINE_SIZE = 8.0  # units; so for smaller shapes

Numbers = Sequence[float]

_CLOSED: dict[str, tuple[int, Callable[..., Ring]]] = {
    "ellipse": (4, ellipse),
    "circle": (3, lambda cx, cy, r: ellipse(cx, cy, r, r)),
    "pie": (6, lambda cx, cy, *rest: ((cx, cy), *arc(cx, cy, *rest))),
    "chord": (6, arc),
    "star": (5, star),
}
_LINES = ("line", "curve", "arc")
PRIMITIVES = (*_CLOSED, "rect", "poly", "blob", *_LINES)
_OPTIONS = ("fill", "turn", "mirror", "repeat", "inside", "fine", "width", "round")
_FILL = re.compile(r"([a-z ]+?)(\++|-+)?")


@dataclass(frozen=True)
class Place:
    """Where in a drawing file something is written; makes its errors."""

    text: str

    def at(self, what: str) -> Place:
        """A place within this one."""
        return Place(f"{self.text}, {what}")

    def error(self, message: str, hint: str | None = None) -> InputError:
        """The error to raise."""
        return InputError(f"{self.text}: {message}", hint=hint)

    def known(self, table: Mapping[str, Any], keys: Sequence[str]) -> None:
        """Raise unless all keys of the table are among `keys`."""
        for key in table:
            if key not in keys:
                raise self.error(f"unknown key {key!r}", did_you_mean(key, keys))

    def numbers(self, value: Any, count: int | None = None) -> list[float]:
        """The value as numbers, `count` of them if given."""
        ok = isinstance(value, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
        if not ok or (count is not None and len(value) != count):
            raise self.error(f"expected {'numbers' if count is None else f'{count} numbers'}, not {value!r}")
        return [float(v) for v in value]

    def number(self, value: Any) -> float:
        """The value as a number."""
        return self.numbers([value])[0]


def parse_shape(table: Any, default_fill: str | None, slots: Sequence[str], place: Place) -> list[Shape]:
    """The shape of a table, and its copies.

    Args:
        default_fill: the part's.
        slots: names that a fill may have.

    Raises:
        InputError: the table is none of the above; says where and why.
    """
    if not isinstance(table, dict):
        raise place.error(f"a shape is a table such as {{circle = [50, 50, 20]}}, not {table!r}")
    kinds = [key for key in table if key in PRIMITIVES]
    if len(kinds) != 1:
        place.known(table, (*PRIMITIVES, *_OPTIONS))
        raise place.error(f"needs exactly one of {', '.join(PRIMITIVES)}; it has {' and '.join(kinds) or 'none'}")
    kind = kinds[0]
    place.known(table, (kind, *_OPTIONS))
    rings = _rings(kind, table, place.at(kind))
    if "turn" in table:
        x0, y0, x1, y1 = bounds(rings)
        spin = turn(place.number(table["turn"])).about(((x0 + x1) / 2, (y0 + y1) / 2))
        rings = tuple(spin.ring(ring) for ring in rings)
    fill = parse_fill(table.get("fill", default_fill), slots, place)
    fine = table.get("fine", _is_fine(kind, rings, table))
    shape = Shape(rings, fill, bool(table.get("inside")), bool(fine), kind in _LINES)
    return [shape.mapped(matrix) for matrix in copies(table, place)]


def parse_fill(text: Any, slots: Sequence[str], place: Place) -> Fill:
    """A fill such as "body", "body--", "white" or "hole"."""
    found = _FILL.fullmatch(text) if isinstance(text, str) else None
    if not found:
        raise place.error(f"fill must be a slot or colour such as 'body' or 'red--', not {text!r}")
    slot, steps = found[1], found[2] or ""
    if slot == "hole":
        return Fill(None)
    if slot not in slots:
        raise place.error(f"unknown slot or colour {slot!r}", did_you_mean(slot, slots))
    return Fill(slot, len(steps) if steps.startswith("+") else -len(steps))


def copies(table: Mapping[str, Any], place: Place) -> list[Affine]:
    """The maps of `mirror` and `repeat`, the identity first; a mirror image follows its original."""
    reflect = [Affine()]
    if "mirror" in table:
        reflect.append(Affine(a=-1, c=2 * place.number(table["mirror"])))
    return [step.after(mirror) for step in _repeats(table.get("repeat"), place.at("repeat")) for mirror in reflect]


def _repeats(table: Any, place: Place) -> Iterator[Affine]:
    yield Affine()
    if table is None:
        return
    if not isinstance(table, dict) or not isinstance(table.get("n"), int) or table["n"] < 2:
        raise place.error("needs n of at least 2, as in {n = 3, move = [10, 0]}")
    place.known(table, ("n", "move", "turn", "about", "grow"))
    size = place.number(table.get("grow", 1))
    spin = turn(place.number(table.get("turn", 0))).after(grow(size, size))
    step = move(*place.numbers(table.get("move", [0, 0]), 2)).after(
        spin.about(_pair(place.numbers(table.get("about", [50, 50]), 2)))
    )
    matrix = Affine()
    for _ in range(table["n"] - 1):
        matrix = step.after(matrix)
        yield matrix


def _rings(kind: str, table: Mapping[str, Any], place: Place) -> tuple[Ring, ...]:
    if kind in _CLOSED:
        count, build = _CLOSED[kind]
        return (build(*place.numbers(table[kind], count)),)
    if kind == "rect":
        x0, y0, x1, y1 = place.numbers(table[kind], 4)
        return (rectangle(x0, y0, x1, y1, place.number(table.get("round", 0))),)
    if kind in _LINES:
        return _stroke(kind, table, place)
    points = _points(table[kind], 3, place)
    return (tuple(points) if kind == "poly" else smooth(points, closed=True),)


def _stroke(kind: str, table: Mapping[str, Any], place: Place) -> tuple[Ring, ...]:
    if "width" not in table:
        raise place.error("needs a width")
    width = table["width"]
    start, end = place.numbers(width, 2) if isinstance(width, list) else [place.number(width)] * 2
    if kind == "arc":
        return stroke(arc(*place.numbers(table[kind], 6)), start, end, bent=True)
    points = _points(table[kind], 2, place)
    bent = kind == "curve"
    return stroke(smooth(points, closed=False) if bent else points, start, end, bent=bent)


def _points(value: Any, least: int, place: Place) -> list[Point]:
    numbers = place.numbers(value)
    if len(numbers) % 2 or len(numbers) < 2 * least:
        raise place.error(f"needs x and y of at least {least} points, it has {len(numbers)} numbers")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _is_fine(kind: str, rings: Sequence[Ring], table: Mapping[str, Any]) -> bool:
    if kind in _LINES:
        width = table["width"]
        return bool((max(width) if isinstance(width, list) else width) <= FINE_WIDTH)
    x0, y0, x1, y1 = bounds(rings)
    return max(x1 - x0, y1 - y0) <= FINE_SIZE


def _pair(numbers: Sequence[float]) -> Point:
    return numbers[0], numbers[1]

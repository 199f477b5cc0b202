"""From a drawing file to drawings.

    [fish]                                         # the class name
    turn = 15                                      # largest rotation, degrees
    colours = {body = ["orange", "teal"]}          # slot -> what it may be
    [[fish.part]]
    phrases = ["a forked tail fin"]
    fill = "body"                                  # of shapes without their own
    shapes = [{poly = [10, 30, 30, 50, 10, 70]}]   # see `shapes`; from back to front

A part may also have: `name`; `on` (moves with that part); `chance`; `either` (of parts with the same word one
is drawn); `mirror` and `repeat` as shapes have; `some` ([least, most] of those copies); `jitter` ({move, grow,
turn}) and its fixed point `pivot`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from vlmprompt.api import InputError, did_you_mean
from vlmprompt.doodles.colours import COLOURS
from vlmprompt.doodles.drawing import DEFAULT_TURN, Drawing, Jitter, Part, Shape
from vlmprompt.doodles.geometry import bounds
from vlmprompt.doodles.shapes import Place, copies, parse_shape

GROUPS = ("animals", "food", "places", "things")
_DRAWING_KEYS = ("turn", "flip", "colours", "part")
_PART_KEYS = (
    "name",
    "on",
    "chance",
    "either",
    "phrases",
    "fill",
    "shapes",
    "mirror",
    "repeat",
    "some",
    "jitter",
    "pivot",
)


@cache
def drawings(group: str) -> Mapping[str, Drawing]:
    """The drawings of a packaged file by name, in its order: a group, "unseen" or "clutter"."""
    file = files(__package__) / "drawings" / f"{group}.toml"
    return parse_drawings(file.read_text(encoding="utf-8"), group)


def parse_drawings(text: str, group: str) -> dict[str, Drawing]:
    """The drawings of a file's text, by name.

    Raises:
        InputError: no TOML, or not as described above; names the drawing, part and shape.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"drawings {group!r} are not TOML: {error}") from error
    return {name: _drawing(name, group, table) for name, table in tables.items()}


def _drawing(name: str, group: str, table: Any) -> Drawing:
    place = Place(f"drawing {name!r}")
    if not isinstance(table, dict) or not isinstance(table.get("part"), list):
        raise place.error(f"has no parts; write them under [[{name}.part]]")
    place.known(table, _DRAWING_KEYS)
    colours = {
        slot: _palette(options, place.at(f"colours {slot!r}")) for slot, options in table.get("colours", {}).items()
    }
    slots = (*colours, *COLOURS)
    parts = [_part(entry, slots, place.at(f"part {i}")) for i, entry in enumerate(table["part"], 1)]
    _check_references(parts, place)
    turn = place.at("turn").number(table.get("turn", DEFAULT_TURN))
    return Drawing(name, group, colours, tuple(parts), turn, bool(table.get("flip", True)))


def _palette(options: Any, place: Place) -> tuple[str, ...]:
    if not isinstance(options, list) or not options:
        raise place.error(f"needs a list of colours, not {options!r}")
    for name in options:
        if name not in COLOURS:
            raise place.error(f"unknown colour {name!r}", did_you_mean(str(name), COLOURS))
    return tuple(options)


def _part(table: Any, slots: Sequence[str], place: Place) -> Part:
    if not isinstance(table, dict) or not table.get("shapes"):
        raise place.error("has no shapes")
    place.known(table, _PART_KEYS)
    phrases = table.get("phrases", [])
    if not isinstance(phrases, list) or not all(isinstance(p, str) and p.strip() for p in phrases):
        raise place.error(f"phrases must be a list of texts, not {phrases!r}")
    shapes = [
        shape
        for i, entry in enumerate(table["shapes"], 1)
        for shape in parse_shape(entry, table.get("fill"), slots, place.at(f"shape {i}"))
    ]
    every = tuple(tuple(shape.mapped(matrix) for shape in shapes) for matrix in copies(table, place))
    least, most = place.at("some").numbers(table.get("some", [len(every)] * 2), 2)
    if not 1 <= least <= most <= len(every):
        raise place.error(f"some = [{least:g}, {most:g}], but there are {len(every)} copies")
    return Part(
        every,
        tuple(phrases),
        (int(least), int(most)),
        _pivot(table, shapes, place),
        _jitter(table.get("jitter", {}), place.at("jitter")),
        place.at("chance").number(table.get("chance", 1)),
        table.get("either"),
        table.get("name"),
        table.get("on"),
    )


def _pivot(table: Mapping[str, Any], shapes: Sequence[Shape], place: Place) -> tuple[float, float]:
    if "pivot" in table:
        x, y = place.at("pivot").numbers(table["pivot"], 2)
        return x, y
    x0, y0, x1, y1 = bounds(ring for shape in shapes for ring in shape.rings)
    return (x0 + x1) / 2, (y0 + y1) / 2


def _jitter(table: Any, place: Place) -> Jitter:
    if not isinstance(table, dict):
        raise place.error(f"is a table such as {{move = 2, turn = 5}}, not {table!r}")
    place.known(table, ("move", "grow", "turn"))
    return Jitter(**{key: place.number(value) for key, value in table.items()})


def _check_references(parts: Sequence[Part], place: Place) -> None:
    """A part can only move with one that was placed before it."""
    seen: list[str] = []
    for i, part in enumerate(parts, 1):
        if part.on is not None and part.on not in seen:
            raise place.at(f"part {i}").error(
                f"is on {part.on!r}, which no earlier part is", did_you_mean(part.on, seen)
            )
        if part.name is not None:
            seen.append(part.name)

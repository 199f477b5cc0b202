"""The random part of a figure: which of a drawing's parts are there, where, and in which colours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from vlmprompt.doodles.colours import COLOURS, RGB, shaded, varied
from vlmprompt.doodles.drawing import Drawing, Fill, Part, Shape
from vlmprompt.doodles.draws import Draws
from vlmprompt.doodles.geometry import Affine, Outlines, turn

_COLOUR_SPREAD = 14  # of 255


class Mark(NamedTuple):
    """A shape with its colour decided; the figure's points say where it is.

    Attributes:
        colour: None cuts a hole.
        group: marks of one part instance share it: what `inside` refers to.
    """

    shape: Shape
    colour: RGB | None
    group: int


class Sketch(NamedTuple):
    """All that is drawn at random of a figure in the drawing's units.

    Attributes:
        marks: from back to front.
        colours: slot -> name of the colour it got.
        phrases: of the parts that are there.
        pieces: the points of its parts.
        matrices: where each part is.
    """

    marks: list[Mark]
    colours: Mapping[str, str]
    phrases: tuple[str, ...]
    pieces: list[Outlines]
    matrices: list[Affine]


def sketch(drawing: Drawing, draws: Draws, group: int = 0) -> Sketch:
    """The random numbers of `figure`.

    Args:
        group: that of the first mark; others are larger.
    """
    colours = {slot: draws.choice(options) for slot, options in drawing.colours.items()}
    tones = {slot: varied(COLOURS[name], draws, _COLOUR_SPREAD) for slot, name in colours.items()}
    made = Sketch([], colours, (), [], [])
    phrases: dict[str, None] = {}
    for part, matrix, n in _present(drawing, draws):
        phrases.update(dict.fromkeys(part.phrases))
        made.pieces.append(part.points[:, : part.ends[n - 1]])
        made.matrices.append(matrix)
        for copy in part.copies[:n]:
            first = group + len(made.marks)
            made.marks.extend([Mark(shape, _colour(shape.fill, tones), first) for shape in copy])
    return made._replace(phrases=tuple(phrases))


def _colour(fill: Fill, tones: Mapping[str, RGB]) -> RGB | None:
    slot, steps = fill
    if slot is None:
        return None
    colour = tones.get(slot) or COLOURS[slot]
    return shaded(colour, steps) if steps else colour


def _present(drawing: Drawing, draws: Draws) -> Iterator[tuple[Part, Affine, int]]:
    """The parts that are there, how each is placed, and how many copies it has."""
    chosen: dict[str, Part] = {}
    for group in dict.fromkeys(part.either for part in drawing.parts if part.either):
        chosen[group] = draws.choice([part for part in drawing.parts if part.either == group])
    placed: dict[str, Affine] = {}
    for part in drawing.parts:
        there = draws.chance(part.chance) and (part.either is None or chosen[part.either] is part)
        if not there or (part.on is not None and part.on not in placed):
            continue
        matrix = _jittered(part, draws)
        if part.on is not None:
            matrix = placed[part.on].after(matrix)
        if part.name is not None:
            placed[part.name] = matrix
        yield part, matrix, draws.integer(*part.some)


def _jittered(part: Part, draws: Draws) -> Affine:
    j, around = part.jitter, draws.around
    wide, high = 1 + around(j.grow), 1 + around(j.grow)
    x, y = around(j.move), around(j.move)
    return turn(around(j.turn), wide, high).about(part.pivot).moved(x, y)

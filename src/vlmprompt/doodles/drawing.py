"""What a drawing is: parts made of filled outlines, in units of which a hundred span a picture of average size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from vlmprompt.doodles.geometry import Affine, Outlines, Point, Ring

DEFAULT_TURN = 14.0


class Fill(NamedTuple):
    """A colour of the drawing: a slot drawn from its palette, or a fixed colour; lighter or darker by steps.

    Attributes:
        slot: name of a slot or colour; None cuts a hole.
        steps: see `colours.shaded`.
    """

    slot: str | None
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Shape:
    """Outlines that are filled together.

    Attributes:
        rings: closed; they may overlap.
        fill: their colour.
        inside: seen only within the shapes before it in its part.
        fine: small or thin: has no outline of its own.
        line: a stroke, so that sketches draw it in ink whatever its colour.
        lengths: of the rings, each closed; see `joined`.
        size: their sum.
    """

    rings: tuple[Ring, ...]
    fill: Fill
    inside: bool = False
    fine: bool = False
    line: bool = False
    lengths: tuple[int, ...] = field(init=False, repr=False, compare=False)
    size: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lengths", tuple(len(ring) + 2 for ring in self.rings))
        object.__setattr__(self, "size", sum(self.lengths))

    def mapped(self, matrix: Affine) -> Shape:
        """The shape elsewhere."""
        return Shape(tuple(matrix.ring(ring) for ring in self.rings), self.fill, self.inside, self.fine, self.line)


@dataclass(frozen=True, slots=True)
class Jitter:
    """How far a part departs from where it was drawn.

    Attributes:
        move: units, each axis.
        grow: of its size, each axis.
        turn: degrees.
    """

    move: float = 1.0
    grow: float = 0.06
    turn: float = 2.0


@dataclass(frozen=True, slots=True)
class Part:
    """A visible part.

    Attributes:
        copies: one or more instances; each is the shapes from back to front.
        phrases: what one would call it, noun phrases that complete "with ...".
        some: the smallest and largest number of copies drawn.
        chance: that it is there at all.
        either: parts of one such group exclude each other.
        name: by which others refer to it.
        on: the part it moves with; it is missing where that one is.
        pivot: fixed point of its growing and turning.
        points: (2, N) of all copies' rings, see `joined`.
        ends: where the points of each copy end.
    """

    copies: tuple[tuple[Shape, ...], ...]
    phrases: tuple[str, ...]
    some: tuple[int, int]
    pivot: Point
    jitter: Jitter = Jitter()
    chance: float = 1.0
    either: str | None = None
    name: str | None = None
    on: str | None = None
    points: Outlines = field(init=False, repr=False, compare=False)
    ends: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "points", joined(ring for copy in self.copies for shape in copy for ring in shape.rings)
        )
        object.__setattr__(self, "ends", tuple(accumulate(sum(shape.size for shape in copy) for copy in self.copies)))


def joined(rings: Iterable[Ring]) -> Outlines:
    """Rings one after the other, (2, N); each ends with its first two points once more, which closes its outline."""
    points = [point for ring in rings for point in (*ring, *ring[:2])]
    return np.ascontiguousarray(np.array(points, dtype=np.float64).reshape(-1, 2).T)


@dataclass(frozen=True, slots=True)
class Drawing:
    """A class of the built-in world.

    Attributes:
        name: as prompts spell it.
        group: the file it is in: "animals", "food", "places", "things", "unseen", "clutter".
        colours: slot -> names of the colours it may have.
        parts: from back to front.
        turn: largest rotation in degrees.
        flip: whether it may be mirrored.
    """

    name: str
    group: str
    colours: Mapping[str, tuple[str, ...]]
    parts: tuple[Part, ...]
    turn: float = DEFAULT_TURN
    flip: bool = True
    phrases: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        every = dict.fromkeys(phrase for part in self.parts for phrase in part.phrases)
        object.__setattr__(self, "phrases", tuple(every))

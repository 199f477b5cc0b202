"""One instance of a drawing: its colours, its parts' variation, its pose, and where it stands."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate

import numpy as np

from vlmprompt.doodles.colours import COLOURS, RGB, shaded, varied
from vlmprompt.doodles.drawing import Drawing, Part, joined
from vlmprompt.doodles.draws import Draws
from vlmprompt.doodles.geometry import Affine, Outlines, Ring, extent, grow, move, turn

_COLOUR_SPREAD = 14  # of 255


@dataclass(frozen=True, slots=True)
class Mark:
    """A shape with its colour decided; see `drawing.Shape`.

    Attributes:
        rings: as drawn; the figure's points say where they are.
        group: marks of one part instance share it: what `inside` refers to.
        colour: None cuts a hole.
    """

    rings: tuple[Ring, ...]
    colour: RGB | None
    group: int
    inside: bool
    fine: bool
    line: bool


@dataclass(frozen=True)
class Figure:
    """What is drawn of a drawing.

    Attributes:
        marks: from back to front.
        colours: slot -> name of the colour it got.
        phrases: of the parts that are there.
        points: (2, N) of all rings in order, see `drawing.joined`; by default where the marks were drawn.
        cuts: of each mark, the first point of each ring and the end of the last.
    """

    marks: tuple[Mark, ...]
    colours: Mapping[str, str]
    phrases: tuple[str, ...]
    points: Outlines = field(default_factory=lambda: np.empty((2, 0)))
    cuts: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.points.size:
            object.__setattr__(self, "points", joined(ring for mark in self.marks for ring in mark.rings))
        if not self.cuts:
            cuts: list[tuple[int, ...]] = [(0,)]
            for mark in self.marks:
                cuts.append(tuple(accumulate((len(ring) + 2 for ring in mark.rings), initial=cuts[-1][-1])))
            object.__setattr__(self, "cuts", tuple(cuts[1:]))

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Smallest x and y, largest x and y."""
        return extent(self.points)

    @property
    def main_colours(self) -> list[RGB]:
        """Of the three largest marks."""
        pairs = zip(self.marks, self.cuts, strict=True)
        seen = [(self.area(cuts), mark.colour) for mark, cuts in pairs if mark.colour and not mark.inside]
        seen.sort(key=lambda item: -item[0])
        return [colour for _, colour in seen[:3]]

    def area(self, cuts: tuple[int, ...]) -> float:
        """Of the box around a mark, given by its cuts."""
        x0, y0, x1, y1 = extent(self.points[:, cuts[0] : cuts[-1]])
        return (x1 - x0) * (y1 - y0)

    def mapped(self, matrix: Affine) -> Figure:
        """The figure elsewhere."""
        return replace(self, points=matrix.points(self.points))


@dataclass(frozen=True)
class Pose:
    """How much a figure's pose may vary.

    Attributes:
        turn: times the drawing's own largest rotation.
        squash: largest relative change of one axis against the other.
        shear: largest sideways shift a unit of height.
        warp: amplitude of a slow wave through the outlines, units.
    """

    turn: float = 1.0
    squash: float = 0.16
    shear: float = 0.14
    warp: float = 2.5


def figure(drawing: Drawing, draws: Draws) -> Figure:
    """Draw the parts that are there, each moved, grown and turned a little, in the drawing's units."""
    colours = {slot: draws.choice(options) for slot, options in drawing.colours.items()}
    tones = {slot: varied(COLOURS[name], draws, _COLOUR_SPREAD) for slot, name in colours.items()}
    marks: list[Mark] = []
    phrases: list[str] = []
    points: list[Outlines] = []
    for part, matrix, n in _present(drawing, draws):
        phrases += part.phrases
        points.append(matrix.points(part.points[:, : part.ends[n - 1]]))
        for copy in part.copies[:n]:
            group = len(marks)
            for shape in copy:
                slot = shape.fill.slot
                colour = None if slot is None else shaded(tones.get(slot) or COLOURS[slot], shape.fill.steps)
                marks.append(Mark(shape.rings, colour, group, shape.inside, shape.fine, shape.line))
    return Figure(tuple(marks), colours, tuple(dict.fromkeys(phrases)), np.concatenate(points, axis=1))


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
    j = part.jitter
    size = grow(1 + draws.around(j.grow), 1 + draws.around(j.grow))
    return move(draws.around(j.move), draws.around(j.move)).after(
        turn(draws.around(j.turn)).after(size).about(part.pivot)
    )


def posed(fig: Figure, drawing: Drawing, pose: Pose, draws: Draws) -> Figure:
    """The figure warped, mirrored, squashed, sheared and turned."""
    warped = _warped(fig, pose.warp, draws)
    flip = -1 if drawing.flip and draws.chance(0.5) else 1
    squash = 1 + draws.around(pose.squash)
    shear = Affine(b=draws.around(pose.shear))
    spin = turn(draws.around(drawing.turn * pose.turn))
    return warped.mapped(spin.after(shear).after(grow(flip * squash, 1 / squash)))


def _warped(fig: Figure, amplitude: float, draws: Draws) -> Figure:
    """Every outline follows a wave of about a hundred units' length along each axis."""
    wx, wy = draws.around(amplitude), draws.around(amplitude)
    fx, fy = draws.uniform(0.03, 0.08), draws.uniform(0.03, 0.08)
    px, py = draws.uniform(0, 2 * math.pi), draws.uniform(0, 2 * math.pi)
    x, y = fig.points
    warped = np.empty_like(fig.points)
    warped[0] = x + wx * np.sin(fx * y + px)
    warped[1] = y + wy * np.sin(fy * x + py)
    return replace(fig, points=warped)


def placed(fig: Figure, size: float, centre: tuple[float, float]) -> Figure:
    """The figure with its longer side of length `size`, its box around `centre`."""
    x0, y0, x1, y1 = fig.bounds
    k = size / max(x1 - x0, y1 - y0)
    matrix = Affine(k, 0, centre[0] - k * (x0 + x1) / 2, 0, k, centre[1] - k * (y0 + y1) / 2)
    return fig.mapped(matrix)

"""Instances of drawings: their points, their pose, and where they stand.

Shapes: P placed parts, K figures, N points of all their outlines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from vlmprompt.doodles.colours import RGB
from vlmprompt.doodles.drawing import Drawing
from vlmprompt.doodles.draws import Draws
from vlmprompt.doodles.geometry import Affine, Box, Outlines, Point, affine, extent, extents, grow, maps, turn
from vlmprompt.doodles.sketch import Mark, Sketch, sketch


class Figure(NamedTuple):
    """What is drawn of a drawing, or of several.

    Attributes:
        marks: from back to front.
        colours: slot -> name of the colour it got.
        phrases: of the parts that are there.
        points: (2, N) of all marks' rings in order, see `drawing.joined`.
    """

    marks: Sequence[Mark]
    colours: Mapping[str, str]
    phrases: tuple[str, ...]
    points: Outlines

    @property
    def bounds(self) -> Box:
        """Smallest x and y, largest x and y."""
        return extent(self.points)

    @property
    def main_colours(self) -> list[RGB]:
        """Of the three largest marks."""
        pairs = zip(self.marks, self.areas(), strict=True)
        seen = [(area, mark.colour) for mark, area in pairs if mark.colour and not mark.shape.inside]
        seen.sort(key=lambda item: -item[0])
        return [colour for _, colour in seen[:3]]

    def areas(self) -> list[float]:
        """Of the box around each mark."""
        starts = list(accumulate((mark.shape.size for mark in self.marks), initial=0))
        low_2M, high_2M = extents(self.points, starts[:-1])
        width_M, height_M = high_2M - low_2M
        areas: list[float] = (width_M * height_M).tolist()
        return areas

    def mapped(self, matrix: Affine) -> Figure:
        """The figure elsewhere."""
        return self._replace(points=matrix.points(self.points))

    def scaled(self, *matrices: Affine) -> Figure:
        """The figure grown and moved by one map after the other."""
        points = self.points
        for matrix in matrices:
            points = matrix.scaled(points)
        return self._replace(points=points)


class Pose(NamedTuple):
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


class Stance(NamedTuple):
    """A pose that was drawn.

    Attributes:
        wave: amplitude, frequency and phase along x, then y, of the wave that outlines follow.
        matrix: what follows it.
    """

    wave: tuple[float, float, float, float, float, float]
    matrix: Affine


class Thing(NamedTuple):
    """All that is drawn at random of a figure that is to stand somewhere; the points come later, of many at once.

    Attributes:
        size: of the longer side of its box.
        centre: of its box.
    """

    sketch: Sketch
    stance: Stance
    size: float
    centre: Point

    @property
    def square(self) -> Box:
        """Around its box."""
        (x, y), half = self.centre, self.size / 2
        return x - half, y - half, x + half, y + half


def figure(drawing: Drawing, draws: Draws) -> Figure:
    """Draw the parts that are there, each moved, grown and turned a little, in the drawing's units."""
    made = sketch(drawing, draws)
    return Figure(made.marks, made.colours, made.phrases, _laid(made.pieces, made.matrices))


def posed(fig: Figure, drawing: Drawing, pose: Pose, draws: Draws) -> Figure:
    """The figure warped, mirrored, squashed, sheared and turned."""
    return fig._replace(points=_standing(fig.points, [stance(drawing, pose, draws)], []))


def placed(fig: Figure, size: float, centre: Point) -> Figure:
    """The figure with its longer side of length `size`, its box around `centre`."""
    return fig.scaled(placing(fig.bounds, size, centre))


def placing(box: Box, size: float, centre: Point) -> Affine:
    """The map of a box to one with a longer side of length `size` around `centre`."""
    x0, y0, x1, y1 = box
    k = size / max(x1 - x0, y1 - y0)
    return Affine(k, 0, centre[0] - k * (x0 + x1) / 2, 0, k, centre[1] - k * (y0 + y1) / 2)


def crowd(things: Sequence[Thing]) -> Figure:
    """Many figures in one, posed and placed, from back to front: to the bit what they are one by one."""
    pieces = [piece for thing in things for piece in thing.sketch.pieces]
    matrices = [matrix for thing in things for matrix in thing.sketch.matrices]
    lengths = [sum(mark.shape.size for mark in thing.sketch.marks) for thing in things]
    points = _standing(_laid(pieces, matrices), [thing.stance for thing in things], lengths)
    low_2K, high_2K = extents(points, list(accumulate(lengths[:-1], initial=0)))
    k_K = np.array([thing.size for thing in things]) / (high_2K - low_2K).max(axis=0)
    shift_2K = np.array([thing.centre for thing in things]).T - k_K * (low_2K + high_2K) / 2
    points *= np.repeat(k_K, lengths)
    points += np.repeat(shift_2K, lengths, axis=1)
    return Figure([mark for thing in things for mark in thing.sketch.marks], {}, (), points)


def stance(drawing: Drawing, pose: Pose, draws: Draws) -> Stance:
    """The random numbers of `posed`."""
    around, uniform = draws.around, draws.uniform
    wx, wy = around(pose.warp), around(pose.warp)
    fx, fy = uniform(0.03, 0.08), uniform(0.03, 0.08)
    px, py = uniform(0, 2 * math.pi), uniform(0, 2 * math.pi)
    flip = -1 if drawing.flip and draws.chance(0.5) else 1
    squash = 1 + around(pose.squash)
    shear = Affine(b=around(pose.shear))
    spin = turn(around(drawing.turn * pose.turn))
    return Stance((wx, fx, px, wy, fy, py), spin.after(shear).after(grow(flip * squash, 1 / squash)))


def _laid(pieces: Sequence[Outlines], matrices: Sequence[Affine]) -> Outlines:
    """Each piece's points moved by its own matrix, one after the other."""
    maps_32N = maps(matrices).repeat([xy.shape[1] for xy in pieces], axis=2)
    return affine(np.concatenate(pieces, axis=1), maps_32N)


def _standing(xy_2N: Outlines, stances: Sequence[Stance], lengths: Sequence[int]) -> Outlines:
    """Every outline follows a wave of about a hundred units' length along each axis, then the stance's matrix.

    Args:
        lengths: how many points each stance is for; not needed for one.
    """
    waves_32K, maps_32K = maps([stance.wave for stance in stances]), maps([stance.matrix for stance in stances])
    if len(stances) > 1:
        waves_32K, maps_32K = waves_32K.repeat(lengths, axis=2), maps_32K.repeat(lengths, axis=2)
    along = waves_32K[1] * xy_2N[::-1]
    along += waves_32K[2]
    wave = np.sin(along, out=along)
    wave *= waves_32K[0]
    wave += xy_2N
    return affine(wave, maps_32K)

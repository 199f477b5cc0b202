"""Outlines as lists of points, and affine maps. y points down, angles are in degrees and turn clockwise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Outlines = npt.NDArray[np.float64]  # (2, N): x and y of many outlines' points
Point = tuple[float, float]
Ring = tuple[Point, ...]
Box = tuple[float, float, float, float]  # smallest x and y, largest x and y

_CURVE_STEPS = 5  # points per span of a smooth curve
_ARC_STEP = 15.0  # degrees between points of an arc


class Affine(NamedTuple):
    """(x, y) -> (a x + b y + c, d x + e y + f)."""

    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0
    e: float = 1.0
    f: float = 0.0

    def after(self, first: Affine) -> Affine:
        """The map that applies `first`, then this one."""
        a, b, c, d, e, f = self
        g, h, i, j, k, m = first
        return Affine(a * g + b * j, a * h + b * k, a * i + b * m + c, d * g + e * j, d * h + e * k, d * i + e * m + f)

    def ring(self, points: Iterable[Point]) -> Ring:
        """The image of some points."""
        a, b, c, d, e, f = self
        return tuple([(a * x + b * y + c, d * x + e * y + f) for x, y in points])

    def points(self, xy_2N: Outlines) -> Outlines:
        """The image of many points at once."""
        return affine(xy_2N, np.array(self).reshape(2, 3).T.reshape(3, 2, *(1,) * (xy_2N.ndim - 1)))

    def box(self, box: Box) -> Box:
        """The image of a box under a map that neither turns nor mirrors: to the bit the box of the points' images."""
        x0, y0, x1, y1 = box
        return self.a * x0 + self.c, self.e * y0 + self.f, self.a * x1 + self.c, self.e * y1 + self.f

    def scaled(self, xy_2N: Outlines) -> Outlines:
        """`points` of a map that only grows and moves, in fewer steps."""
        return xy_2N * np.array([[self.a], [self.e]]) + np.array([[self.c], [self.f]])

    def about(self, centre: Point) -> Affine:
        """The same map with its origin at `centre`."""
        a, b, c, d, e, f = self
        x, y = centre
        return Affine(a, b, a * -x + b * -y + (c + x), d, e, d * -x + e * -y + (f + y))

    def moved(self, x: float, y: float) -> Affine:
        """The map, then a translation."""
        a, b, c, d, e, f = self
        return Affine(a, b, c + x, d, e, f + y)


def maps(matrices: Sequence[Sequence[float]]) -> Outlines:
    """K maps side by side for `affine`: (3, 2, K)."""
    return np.fromiter(chain.from_iterable(matrices), np.float64, 6 * len(matrices)).reshape(-1, 2, 3).T


def affine(xy_2N: Outlines, maps_32N: Outlines) -> Outlines:
    """The image of each point by a map of its own, or of all by one: (3, 2, N or 1), factors of x, of y, and shifts.

    More axes of points or maps are broadcast.
    """
    moved = maps_32N[0] * xy_2N[0]
    moved += maps_32N[1] * xy_2N[1]
    moved += maps_32N[2]
    return moved


def move(x: float, y: float) -> Affine:
    """A translation."""
    return Affine(c=x, f=y)


def grow(x: float, y: float) -> Affine:
    """A scaling of each axis about the origin."""
    return Affine(a=x, e=y)


def turn(angle: float, x: float = 1.0, y: float = 1.0) -> Affine:
    """A rotation about the origin, after a scaling of each axis."""
    radians = math.radians(angle)
    cos, sin = math.cos(radians), math.sin(radians)
    return Affine(cos * x, -sin * y, 0.0, sin * x, cos * y, 0.0)


def bounds(rings: Iterable[Iterable[Point]]) -> Box:
    """Smallest x, smallest y, largest x, largest y of all points."""
    points = [point for ring in rings for point in ring]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


def extent(xy_2N: Outlines) -> Box:
    """`bounds` of many points at once."""
    x0, y0 = np.minimum.reduce(xy_2N, axis=1).tolist()
    x1, y1 = np.maximum.reduce(xy_2N, axis=1).tolist()
    return x0, y0, x1, y1


def extents(xy_2N: Outlines, starts: Sequence[int]) -> tuple[Outlines, Outlines]:
    """The boxes of successive stretches of points: (2, K) smallest and (2, K) largest x and y."""
    return np.minimum.reduceat(xy_2N, starts, axis=1), np.maximum.reduceat(xy_2N, starts, axis=1)


def arc(cx: float, cy: float, rx: float, ry: float, start: float, end: float) -> Ring:
    """Points of an ellipse from one angle to another."""
    return tuple([(cx + rx * x, cy + ry * y) for x, y in _unit_arc(start, end)])


@lru_cache(maxsize=64)
def _unit_arc(start: float, end: float) -> Ring:
    n = max(2, math.ceil(abs(end - start) / _ARC_STEP))
    angles = [math.radians(start + (end - start) * i / n) for i in range(n + 1)]
    return tuple((math.cos(t), math.sin(t)) for t in angles)


def arcs(centres: Sequence[Point], radii: Sequence[float], spans: Sequence[Point]) -> Outlines:
    """`arc` of R circles, of as many degrees each: (2, R, P).

    Args:
        spans: first and last angle of each.
    """
    unit_RP2 = np.array([_unit_arc(*span) for span in spans])
    middle_R2, radius_R = np.array(centres), np.array(radii)
    return (middle_R2[:, None] + radius_R[:, None, None] * unit_RP2).transpose(2, 0, 1)


def ellipse(cx: float, cy: float, rx: float, ry: float) -> Ring:
    """A whole ellipse."""
    return arc(cx, cy, rx, ry, 0, 360)[:-1]


def rectangle(x0: float, y0: float, x1: float, y1: float, radius: float = 0) -> Ring:
    """A rectangle with rounded corners."""
    if radius <= 0:
        return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    r = min(radius, (x1 - x0) / 2, (y1 - y0) / 2)
    corners = ((x0 + r, y0 + r, 180), (x1 - r, y0 + r, 270), (x1 - r, y1 - r, 0), (x0 + r, y1 - r, 90))
    return tuple(point for x, y, start in corners for point in arc(x, y, r, r, start, start + 90))


def star(cx: float, cy: float, outer: float, inner: float, tips: float) -> Ring:
    """A star with a tip on top."""
    steps = [(math.pi * (i / tips - 0.5), outer if i % 2 == 0 else inner) for i in range(2 * int(tips))]
    return tuple((cx + r * math.cos(t), cy + r * math.sin(t)) for t, r in steps)


def smooth(points: Sequence[Point], *, closed: bool) -> Ring:
    """A Catmull-Rom curve through the points; a point given twice in a row is a corner."""
    padded = (points[-1], *points, *points[:2]) if closed else (points[0], *points, points[-1])
    curve: list[Point] = []
    for p0, p1, p2, p3 in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        if p1 != p2:
            (x0, y0), (x1, y1), (x2, y2), (x3, y3) = p0, p1, p2, p3
            for a, b, c, d in _CURVE_WEIGHTS:
                curve.append((a * x0 + b * x1 + c * x2 + d * x3, a * y0 + b * y1 + c * y2 + d * y3))
    return tuple(curve) if closed else (*curve, points[-1])


def smoothed(xy_2RP: Outlines, *, closed: bool) -> Outlines:
    """`smooth` of R curves through P points each, without corners: (2, R, C)."""
    first, last = xy_2RP[..., :1], xy_2RP[..., -1:]
    padded = [last, xy_2RP, xy_2RP[..., :2]] if closed else [first, xy_2RP, last]
    points = np.concatenate(padded, axis=2)[..., None]
    spans = points.shape[2] - 3
    a, b, c, d = np.array(_CURVE_WEIGHTS).T
    curve = a * points[:, :, :spans]
    curve += b * points[:, :, 1 : spans + 1]
    curve += c * points[:, :, 2 : spans + 2]
    curve += d * points[:, :, 3:]
    joined = curve.reshape(*xy_2RP.shape[:2], -1)
    return joined if closed else np.concatenate([joined, last], axis=2)


def band(xy_2RP: Outlines, width: float) -> Outlines:
    """The first outline of a bent `stroke` of one width along each of R lines of P points: (2, R, 2 P)."""
    end = xy_2RP.shape[2] - 1
    at = np.arange(end + 1)
    dx, dy = xy_2RP[..., np.minimum(at + 1, end)] - xy_2RP[..., np.maximum(at - 1, 0)]
    steps = zip(dx.ravel().tolist(), dy.ravel().tolist(), strict=True)
    length = np.array([math.hypot(x, y) or 1.0 for x, y in steps]).reshape(dx.shape)
    across = width / 2 * (np.array([-dy, dx]) / length)
    return np.concatenate([xy_2RP + across, (xy_2RP - across)[..., ::-1]], axis=2)


def _catmull_rom(t: float) -> tuple[float, float, float, float]:
    return (
        t * (t * (2 - t) - 1) / 2,
        (t * t * (3 * t - 5) + 2) / 2,
        t * (t * (4 - 3 * t) + 1) / 2,
        t * t * (t - 1) / 2,
    )


_CURVE_WEIGHTS = tuple(_catmull_rom(i / _CURVE_STEPS) for i in range(_CURVE_STEPS))


def stroke(points: Sequence[Point], start: float, end: float, *, bent: bool) -> tuple[Ring, ...]:
    """Outlines that together fill a line whose width goes from `start` to `end`, with round caps.

    A gently bent line is one outline. A polyline is one quadrilateral a segment and a disc a joint: a single
    outline would overlap itself at sharp corners, and overlaps count as outside when a polygon is filled.
    """
    last = len(points) - 1
    half = [(start + (end - start) * i / last) / 2 for i in range(last + 1)]
    caps = [
        ellipse(*points[i], half[i], half[i]) for i in (range(last + 1) if not bent else (0, last)) if half[i] > 0.4
    ]
    if bent:
        normals = [_normal(points[max(i - 1, 0)], points[min(i + 1, last)]) for i in range(last + 1)]
        sides = [
            [(x + s * h * u, y + s * h * v) for (x, y), (u, v), h in zip(points, normals, half, strict=True)]
            for s in (1, -1)
        ]
        return (tuple(sides[0] + sides[1][::-1]), *caps)
    quads = []
    for i in range(last):
        (x0, y0), (x1, y1), (u, v) = points[i], points[i + 1], _normal(points[i], points[i + 1])
        a, b = half[i], half[i + 1]
        quads.append(
            ((x0 + a * u, y0 + a * v), (x1 + b * u, y1 + b * v), (x1 - b * u, y1 - b * v), (x0 - a * u, y0 - a * v))
        )
    return (*quads, *caps)


def _normal(p: Point, q: Point) -> Point:
    dx, dy = q[0] - p[0], q[1] - p[1]
    length = math.hypot(dx, dy) or 1.0
    return -dy / length, dx / length

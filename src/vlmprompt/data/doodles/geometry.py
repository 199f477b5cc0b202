"""Outlines as lists of points, and affine maps. y points down, angles are in degrees and turn clockwise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

Point = tuple[float, float]
Ring = tuple[Point, ...]

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

    def about(self, centre: Point) -> Affine:
        """The same map with its origin at `centre`."""
        x, y = centre
        return move(x, y).after(self).after(move(-x, -y))


def move(x: float, y: float) -> Affine:
    """A translation."""
    return Affine(c=x, f=y)


def grow(x: float, y: float) -> Affine:
    """A scaling of each axis about the origin."""
    return Affine(a=x, e=y)


def turn(angle: float) -> Affine:
    """A rotation about the origin."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return Affine(a=cos, b=-sin, d=sin, e=cos)


def bounds(rings: Iterable[Iterable[Point]]) -> tuple[float, float, float, float]:
    """Smallest x, smallest y, largest x, largest y of all points."""
    points = [point for ring in rings for point in ring]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


def arc(cx: float, cy: float, rx: float, ry: float, start: float, end: float) -> Ring:
    """Points of an ellipse from one angle to another."""
    n = max(2, math.ceil(abs(end - start) / _ARC_STEP))
    angles = [math.radians(start + (end - start) * i / n) for i in range(n + 1)]
    return tuple((cx + rx * math.cos(t), cy + ry * math.sin(t)) for t in angles)


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
    n = len(points)
    if closed:
        spans = [tuple(points[(i + k) % n] for k in (-1, 0, 1, 2)) for i in range(n)]
    else:
        padded = (points[0], *points, points[-1])
        spans = [tuple(padded[i : i + 4]) for i in range(n - 1)]
    curve = [_span(span, i / _CURVE_STEPS) for span in spans if span[1] != span[2] for i in range(_CURVE_STEPS)]
    return tuple(curve) if closed else (*curve, points[-1])


def _span(p: Sequence[Point], t: float) -> Point:
    w0, w1 = t * (t * (2 - t) - 1) / 2, (t * t * (3 * t - 5) + 2) / 2
    w2, w3 = t * (t * (4 - 3 * t) + 1) / 2, t * t * (t - 1) / 2
    x, y = ((w0 * p[0][k] + w1 * p[1][k] + w2 * p[2][k] + w3 * p[3][k]) for k in (0, 1))
    return x, y


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

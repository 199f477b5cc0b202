"""What is drawn many at once, looked up or cut to a box has the same bits as drawn plainly."""

from __future__ import annotations

import hashlib
import random
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

from vlmprompt.doodles.backgrounds import PATTERNS, mixture
from vlmprompt.doodles.domains import PAINT
from vlmprompt.doodles.draws import Draws
from vlmprompt.doodles.figure import Figure, Thing, crowd, figure, placed, placing, posed, stance
from vlmprompt.doodles.geometry import Outlines, Ring, arc, arcs, band, grow, move, smooth, smoothed, stroke, turn
from vlmprompt.doodles.ink import CANVAS, SIZE, Ink, blank, draw_figure, drawn, pixels
from vlmprompt.doodles.parse import drawings
from vlmprompt.doodles.render import _darkened
from vlmprompt.doodles.sketch import sketch
from vlmprompt.doodles.textures import TEXTURES

FIRST, SECOND = (250, 7, 133), (31, 250, 132)
INKS = {
    "edges": Ink(edge=(20, 20, 20), width=5),
    "paper": Ink(edge=(20, 20, 20), width=3, paper=(250, 240, 230)),
    "flat": Ink(flat=(9, 8, 70)),
}


def things(seed: int, centres: list[tuple[float, float]]) -> tuple[list[Thing], list[Figure]]:
    """Small things as parts of a crowd, and one by one."""
    parts, figures = [], []
    group = 0
    for i, centre in enumerate(centres):
        draws, again = Draws("crowd", seed, i), Draws("crowd", seed, i)
        drawing = list(drawings("clutter").values())[(seed + i) % 12]
        parts.append(Thing(sketch(drawing, draws, group), stance(drawing, PAINT.pose, draws), 30 + i, centre))
        group += len(parts[-1].sketch.marks)
        figures.append(placed(posed(figure(drawing, again), drawing, PAINT.pose, again), 30 + i, centre))
    return parts, figures


@pytest.mark.parametrize("name", [*PATTERNS, *TEXTURES])
def test_a_pattern_is_the_mean_of_two_colours(name: str) -> None:
    pattern = {**PATTERNS, **TEXTURES}[name]
    for i in range(3):
        canvas = Image.new("RGB", (CANVAS, CANVAS), FIRST)
        pen = ImageDraw.Draw(canvas)

        def brush(outline: Ring | Outlines, pen: ImageDraw.ImageDraw = pen) -> None:
            many = np.moveaxis(outline, 0, 2) if isinstance(outline, np.ndarray) else np.array([outline])
            for ring in np.floor(many + 0.5).astype(int):
                pen.polygon(ring.ravel().tolist(), fill=SECOND)

        pattern(Draws(name, i), brush)
        found = mixture(pattern, Draws(name, i), FIRST, SECOND)
        assert (found[..., :3] == np.asarray(canvas.reduce(4))).all()


def test_every_mean_of_two_levels() -> None:
    """As Pillow rounds it, for each number of canvas pixels that are filled."""
    for low, high in ((0, 255), (3, 4), (250, 7), (128, 129)):
        for n in range(17):
            canvas = np.full(16, low, dtype=np.uint8)
            canvas[:n] = high
            mean = Image.fromarray(canvas.reshape(4, 4)).reduce(4).getpixel((0, 0))
            assert mean == ((16 - n) * low + n * high + 8) // 16


def test_a_crowd_is_its_figures_one_by_one() -> None:
    centres = [(20.0, 30.0), (128.0, 128.0), (140.0, 120.0), (250.0, -3.0)]
    for seed in range(4):
        parts, figures = things(seed, centres)
        whole = crowd(parts)
        assert (whole.points == np.concatenate([fig.points for fig in figures], axis=1)).all()
        assert [(mark.shape, mark.colour) for mark in whole.marks] == [
            (mark.shape, mark.colour) for fig in figures for mark in fig.marks
        ]
        starts = np.cumsum([0, *(len(fig.marks) for fig in figures)])
        groups = [{mark.group for mark in whole.marks[i:j]} for i, j in pairwise(starts)]
        assert all(not (a & b) for a, b in pairwise(groups))


@pytest.mark.parametrize("ink", INKS.values(), ids=INKS)
def test_a_box_of_a_canvas_that_is_used_again(ink: Ink) -> None:
    for seed, centre in enumerate([(120.0, 90.0), (2.0, 250.0), (-30.0, 90.0), (60.0, 290.0), (300.0, -50.0)]):
        parts, figures = things(seed, [centre, (centre[0] + 20, centre[1])])
        canvas = blank()
        for fig in figures:
            draw_figure(canvas, fig, ink)
        found = drawn(crowd(parts), ink, crowd(parts).bounds)
        assert found.shape == (SIZE, SIZE, 4) and (found == pixels(canvas)).all()


def test_many_curves_at_once() -> None:
    numbers = random.Random(5)
    curves = [[(numbers.uniform(-9, 300), numbers.uniform(-9, 300)) for _ in range(9)] for _ in range(3)]
    xy_2RP = np.moveaxis(np.array(curves), 2, 0)
    for closed in (False, True):
        expected = np.array([smooth(curve, closed=closed) for curve in curves])
        assert (np.moveaxis(smoothed(xy_2RP, closed=closed), 0, 2) == expected).all()
    strokes = np.array([stroke(curve, 7.3, 7.3, bent=True)[0] for curve in curves])
    assert (np.moveaxis(band(xy_2RP, 7.3), 0, 2) == strokes).all()
    quads = np.array([stroke(curve[:2], 7.3, 7.3, bent=False)[0] for curve in curves])
    assert (np.moveaxis(band(xy_2RP[..., :2], 7.3), 0, 2) == quads).all()
    centres, radii, spans = [curve[0] for curve in curves], [3.3, 20.0, 77.7], [(0, 90), (90, 180), (30, 120)]
    expected = np.array([arc(x, y, r, r, *span) for (x, y), r, span in zip(centres, radii, spans, strict=True)])
    assert (np.moveaxis(arcs(centres, radii, spans), 0, 2) == expected).all()


def test_maps_in_fewer_steps() -> None:
    xy_2N: npt.NDArray[np.float64] = np.array([[1.7, -3.1, 20.3], [0.4, 55.5, -7.0]])
    matrix = placing((-3.1, -7.0, 20.3, 55.5), 61.3, (17.1, 23.9))
    assert (matrix.scaled(xy_2N) == matrix.points(xy_2N)).all()
    box = matrix.box((-3.1, -7.0, 20.3, 55.5))
    moved = matrix.points(xy_2N)
    assert box == (*moved.min(axis=1), *moved.max(axis=1))
    spun = turn(33.0).after(grow(1.1, 0.7))
    assert turn(33.0, 1.1, 0.7) == spun
    assert spun.about((3, 5)) == move(3, 5).after(spun).after(move(-3, -5))
    assert spun.moved(2.5, -1) == move(2.5, -1).after(spun)


def test_forks_have_the_key_of_their_parent_and_purpose() -> None:
    parent = Draws("a", 1)
    digest = hashlib.sha256(b'["a", 1]').hexdigest()
    for purpose in ("place", 'with "quotes" and é'):
        assert parent.fork(purpose).octets(16) == Draws(digest, purpose).octets(16)
        assert parent.fork(purpose).uniform(0, 1) == Draws(digest, purpose).uniform(0, 1)


def test_streams_are_those_of_the_whole_random_class() -> None:
    draws = Draws("a", 1)
    plain = random.Random(int.from_bytes(hashlib.sha256(b'["a", 1]').digest(), "big"))
    assert [draws.uniform(0, 1) for _ in range(5)] == [plain.random() for _ in range(5)]


def test_night_in_small_integers() -> None:
    """As in large ones: nothing overflows, not on white."""
    for i in range(8):
        image = Image.new("RGB", (SIZE, SIZE), "white")
        found = np.asarray(_darkened(image, Draws("night", i)))
        draws = Draws("night", i)
        cast = draws.choice(((70, 80, 130), (60, 100, 110), (110, 78, 60), (85, 70, 120)))
        strength = draws.uniform(0.8, 1.15)
        first, second = np.frombuffer(draws.octets(2 * found.size), dtype=np.uint8).astype(int).reshape(2, *found.shape)
        levels = np.array([int(c * strength) for c in cast])
        dim = (255 * levels >> 8) + 6 + ((first - second) * draws.integer(14, 26) >> 8)
        assert (found == np.clip(dim, 0, 255)).all()

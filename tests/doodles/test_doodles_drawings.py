"""Drawing files, outlines and the stream of random numbers that pictures are made from."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmprompt.doodles.draws import Draws
from vlmprompt.doodles.figure import figure, placed
from vlmprompt.doodles.geometry import Affine, Point, Ring, ellipse, grow, move, rectangle, smooth, stroke, turn
from vlmprompt.doodles.parse import parse_drawings
from vlmprompt.errors import InputError

numbers = st.floats(-100, 100)


def area(ring: Ring) -> float:
    """The shoelace formula."""
    pairs = zip(ring, ring[1:] + ring[:1], strict=True)
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs)) / 2


def drawing(body: str) -> str:
    return f'[kite]\ncolours.cloth = ["red", "blue"]\n[[kite.part]]\n{body}\n'


# Draws


def test_the_stream_is_the_one_that_python_promises() -> None:
    """Values computed once; Python keeps `random.Random(int).random()` between versions."""
    draws = Draws(1, "test", "paint", "cat", 0)
    assert [draws.integer(0, 999) for _ in range(5)] == [15, 14, 756, 876, 203]
    assert draws.octets(4) == draws.octets(4) != draws.fork("other").octets(4)


def test_keys_and_forks_are_streams_of_their_own() -> None:
    def first(draws: Draws) -> float:
        return draws.uniform(0, 1)

    assert first(Draws("a", 1)) == first(Draws("a", 1))
    assert len({first(Draws(*key)) for key in (("a", 1), ("a", "1"), ("a", 11), ("a1",), ("a",))}) == 5
    parent = Draws("a")
    before = first(parent.fork("x"))
    first(parent)
    assert first(parent.fork("x")) == before != first(parent.fork("y"))


def test_draws_are_within_their_bounds() -> None:
    draws = Draws("bounds")
    whole = [draws.integer(2, 4) for _ in range(300)]
    assert set(whole) == {2, 3, 4}
    assert all(-3 < draws.around(3) < 3 for _ in range(300))
    assert 0.2 < np.mean([draws.chance(0.3) for _ in range(600)]) < 0.4
    assert sorted(draws.some("abcd", 4)) == list("abcd") and len(set(draws.some("abcd", 2))) == 2


# Outlines


@given(numbers, numbers, st.floats(-360, 360), st.floats(0.1, 3))
def test_maps_follow_one_another(x: float, y: float, angle: float, size: float) -> None:
    first, then = turn(angle).about((10, 20)), move(3, -4).after(grow(size, 2))
    [(u, v)] = then.after(first).ring([(x, y)])
    [(s, t)] = then.ring(first.ring([(x, y)]))
    assert (u, v) == pytest.approx((s, t), abs=1e-9)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turned = (10 + cos * (x - 10) - sin * (y - 20), 20 + sin * (x - 10) + cos * (y - 20))
    assert (u, v) == pytest.approx((size * turned[0] + 3, 2 * turned[1] - 4), abs=1e-9)
    assert Affine(*then).points(np.array([[x], [y]]))[:, 0] == pytest.approx(then.ring([(x, y)])[0])


def test_areas() -> None:
    assert area(rectangle(0, 0, 10, 4)) == 40
    assert area(rectangle(0, 0, 10, 4, radius=1)) == pytest.approx(40 - (4 - math.pi), abs=0.1)
    assert area(ellipse(5, 5, 10, 3)) == pytest.approx(math.pi * 30, rel=0.02)
    [line, *caps] = stroke([(0, 0), (10, 0)], 4, 2, bent=False)
    assert area(line) == pytest.approx(30)  # a trapezium
    assert sorted(area(cap) for cap in caps) == pytest.approx([math.pi, 4 * math.pi], rel=0.02)
    straight = stroke([(0, 0), (5, 0), (10, 0)], 3, 3, bent=True)[0]
    assert area(straight) == pytest.approx(30)


def test_smooth_curves_pass_through_their_points_and_keep_corners() -> None:
    points: list[Point] = [(0, 0), (10, 0), (10, 10), (0, 10)]
    closed, line = smooth(points, closed=True), smooth(points, closed=False)
    assert set(points) <= set(closed) and set(points) <= set(line)
    assert (line[0], line[-1]) == (points[0], points[-1])
    x, y = closed[3]  # 3/5 of the way from the first point to the second, by the formula of Catmull and Rom
    t = 0.6
    weights = ((-t + 2 * t**2 - t**3) / 2, (2 - 5 * t**2 + 3 * t**3) / 2, (t + 4 * t**2 - 3 * t**3) / 2)
    weights += ((t**3 - t**2) / 2,)
    around = [(0, 10), (0, 0), (10, 0), (10, 10)]
    assert (x, y) == pytest.approx([sum(w * p[k] for w, p in zip(weights, around, strict=True)) for k in (0, 1)])
    corner = smooth([(0, 0), (10, 0), (10, 0), (10, 10)], closed=False)
    assert corner.count((10, 0)) == 1


# Files


def test_a_part_with_copies_colours_and_placing() -> None:
    text = drawing(
        """fill = "cloth"
phrases = ["a row of squares"]
repeat = {n = 3, move = [20, 0]}
some = [1, 3]
jitter = {move = 0, grow = 0, turn = 0}
shapes = [{rect = [0, 0, 10, 10]}, {circle = [5, 5, 2], fill = "white--"}]"""
    )
    kite = parse_drawings(text, "test")["kite"]
    assert kite.phrases == ("a row of squares",) and len(kite.parts[0].copies) == 3
    found = [figure(kite, Draws("kite", i)) for i in range(40)]
    assert {len(fig.marks) for fig in found} == {2, 4, 6} and {fig.colours["cloth"] for fig in found} == {"red", "blue"}
    three = next(fig for fig in found if len(fig.marks) == 6)
    assert three.bounds == (0, 0, 50, 10) and [mark.group for mark in three.marks] == [0, 0, 2, 2, 4, 4]
    assert {mark.colour for mark in three.marks[1::2]} == {(140, 140, 139)}  # 250 -> 187 -> 140, 248 -> 186 -> 139
    assert placed(three, 100, (0, 0)).bounds == pytest.approx((-50, -10, 50, 10))


def test_parts_that_exclude_each_other_and_follow_others() -> None:
    text = (
        drawing('name = "head"\nchance = 0.5\nphrases = ["a head"]\nshapes = [{circle = [0, 0, 5], fill = "red"}]')
        + '[[kite.part]]\non = "head"\nphrases = ["an eye"]\nshapes = [{circle = [0, 0, 1], fill = "black"}]\n'
        + '[[kite.part]]\neither = "hat"\nphrases = ["a cap"]\nshapes = [{circle = [0, 9, 1], fill = "red"}]\n'
        + '[[kite.part]]\neither = "hat"\nphrases = ["a crown"]\nshapes = [{circle = [0, 9, 1], fill = "red"}]\n'
    )
    kite = parse_drawings(text, "test")["kite"]
    found = {figure(kite, Draws(i)).phrases for i in range(60)}
    heads, hats = (("a head", "an eye"), ()), (("a cap",), ("a crown",))
    assert found == {head + hat for head in heads for hat in hats}


@pytest.mark.parametrize(
    ("body", "message", "hint"),
    [
        ("shapes = [{circel = [1, 2, 3]}]", "drawing 'kite', part 1, shape 1: unknown key 'circel'", "'circle'"),
        ("shapes = [{circle = [1, 2]}]", "part 1, shape 1, circle: expected 3 numbers, not [1, 2]", ""),
        ("shapes = [{fill = 'red'}]", "shape 1: needs exactly one of ellipse, circle,", ""),
        ("shapes = [{circle = [1, 2, 3], rect = [0, 0, 1, 1], fill = 'red'}]", "it has circle and rect", ""),
        ("shapes = [{circle = [1, 2, 3], fill = 'cloht'}]", "unknown slot or colour 'cloht'", "'cloth'"),
        ("shapes = [{circle = [1, 2, 3], fill = 'Red!'}]", "fill must be a slot or colour", ""),
        ("shapes = [{circle = [1, 2, 3]}]", "fill must be a slot or colour such as", ""),
        ("shapes = [{poly = [1, 2, 3, 4, 5], fill = 'red'}]", "x and y of at least 3 points, it has 5 numbers", ""),
        ("shapes = [{line = [1, 2, 3, 4], fill = 'red'}]", "line: needs a width", ""),
        ("shapes = []", "part 1: has no shapes", ""),
        ("shapes = [{circle = [1, 2, 3], fill = 'red'}]\nsome = [1, 2]", "some = [1, 2], but there are 1 copies", ""),
        ("shapes = [{circle = [1, 2, 3], fill = 'red'}]\non = 'mast'", "is on 'mast', which no earlier part is", ""),
        ("shapes = [{circle = [1, 2, 3], fill = 'red'}]\nrepeat = {n = 1}", "repeat: needs n of at least 2", ""),
        ("shapes = [{circle = [1, 2, 3], fill = 'red'}]\nphrases = ['']", "phrases must be a list of texts", ""),
        (
            "shapes = [{circle = [1, 2, 3], fill = 'red'}]\njitter = {turns = 1}",
            "jitter: unknown key 'turns'",
            "'turn'",
        ),
    ],
)
def test_mistakes_are_named(body: str, message: str, hint: str) -> None:
    with pytest.raises(InputError) as error:
        parse_drawings(drawing(body), "test")
    assert message in error.value.message
    assert hint in (error.value.hint or "")


def test_a_torn_file_and_a_wrong_palette() -> None:
    with pytest.raises(InputError, match="drawings 'test' are not TOML"):
        parse_drawings("[kite", "test")
    with pytest.raises(InputError, match="drawing 'kite': has no parts"):
        parse_drawings("[kite]", "test")
    with pytest.raises(InputError, match="drawing 'kite', colours 'cloth': unknown colour 'rad'") as error:
        parse_drawings(drawing("").replace("red", "rad"), "test")
    assert error.value.hint == "did you mean 'red'?"


def test_octets_are_a_standard() -> None:
    """SHAKE-256 of the key's SHA-256, which is of its JSON."""
    key = hashlib.sha256(b'["a", 1]').digest()
    assert Draws("a", 1).octets(8) == hashlib.shake_256(key).digest(8)

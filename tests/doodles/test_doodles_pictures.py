"""Pictures of the built-in world: fixed for ever, with true masks, varied, different in every domain."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from vlmprompt.doodles.domains import DOMAINS
from vlmprompt.doodles.draws import Draws
from vlmprompt.doodles.figure import Pose
from vlmprompt.doodles.parse import GROUPS, drawings, parse_drawings
from vlmprompt.doodles.pictures import COUNTS, members, picture
from vlmprompt.doodles.render import render_drawing
from vlmprompt.errors import InputError

REFERENCE = Path(__file__).parents[1] / "golden" / "doodles.png"
DIGEST = "653ef9e748e9198a9609ca763d57e5b8c4edb96a464a7fdd4e64f48355634a6c"
SAMPLE = ("cat", "toad", "donut", "bicycle", "clock")
OUTLIERS = ("whale", "volcano", "maze", "rings", "Q")
STILL = replace(
    DOMAINS["silhouette"], size=(0.5, 0.5), outside=0, pose=Pose(turn=0, squash=0, shear=0, warp=0), light=0
)


def array(image: Image.Image) -> npt.NDArray[np.uint8]:
    return np.asarray(image)


def most_common_share(pixels: npt.NDArray[np.uint8]) -> float:
    return float(np.unique(pixels, axis=0, return_counts=True)[1].max() / len(pixels))


def sample() -> Iterator[Image.Image]:
    """Six domains, five classes each, and five outliers."""
    for domain in DOMAINS:
        yield from (picture(name, 3, domain=domain, split="val").image for name in SAMPLE)
    yield from (picture(name, 3).image for name in OUTLIERS)


def digest(images: Iterator[Image.Image]) -> str:
    return hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()


def reference() -> Iterator[Image.Image]:
    """The stored sample, in rows of five."""
    with Image.open(REFERENCE) as sheet:
        for y in range(0, sheet.height, 64):
            for x in range(0, sheet.width, 64):
                yield sheet.crop((x, y, x + 64, y + 64))


def test_pixels_never_change() -> None:
    """The same bytes; on a machine whose sine or Pillow rounds otherwise, nearly the same pictures."""
    assert digest(reference()) == DIGEST
    if digest(sample()) != DIGEST:
        differences = [
            float(np.abs(array(ours).astype(int) - array(theirs)).mean())
            for ours, theirs in zip(sample(), reference(), strict=True)
        ]
        assert np.mean(differences) < 1, f"mean difference of each picture, of 255: {differences}"


def test_other_processes_draw_the_same() -> None:
    code = (
        "from vlmprompt.doodles.pictures import picture; from hashlib import sha256; import random; random.seed(5);"
        "r = [picture(n, 1, domain=d) for n in ('owl', 'key') for d in ('night', 'paint')];"
        "print(sha256(b''.join(x.image.tobytes() + x.mask.tobytes() for x in r)).hexdigest())"
    )
    here = [picture(name, 1, domain=domain) for name in ("owl", "key") for domain in ("night", "paint")]
    expected = hashlib.sha256(b"".join(r.image.tobytes() + r.mask.tobytes() for r in here)).hexdigest()
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "77"},
    )
    assert found.stdout.strip() == expected


def test_the_classes() -> None:
    assert [len(members(group)) for group in GROUPS] == [16, 16, 16, 16]
    classes = members("")
    assert len(set(classes)) == 64 and list(classes) == sorted(classes)
    others = [set(members(name)) for name in ("unseen", "textures", "glyphs", "clutter")]
    assert [len(names) >= least for names, least in zip(others, (16, 16, 36, 12), strict=True)] == [True] * 4
    assert not any(names & set(classes) for names in others)
    assert all(not (a & b) for i, a in enumerate(others) for b in others[:i])
    for group in (*GROUPS, "unseen"):
        for drawing in drawings(group).values():
            assert len(drawing.parts) >= 3 and len(drawing.phrases) >= 5, drawing.name
    for glyph in drawings("glyphs").values():
        assert [part.either for part in glyph.parts] == ["font"] * 3, glyph.name


@pytest.mark.parametrize("domain", DOMAINS)
def test_picture_mask_and_box(domain: str) -> None:
    for name in members("")[:: 4 if domain == "paint" else 16]:
        found = picture(name, 0, domain=domain, split="train")
        assert (found.image.mode, found.image.size) == ("RGB", (64, 64))
        assert found.mask.shape == (64, 64) and found.mask.dtype == np.bool_
        rows, columns = np.nonzero(found.mask)
        assert found.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert 0.02 < found.mask.mean() < 0.8, name
        assert found.phrases and found.colours


def test_the_mask_is_where_a_silhouette_is() -> None:
    """In one flat colour on a plain ground, the object's inner pixels have it and no pixel beyond it does."""
    style = replace(DOMAINS["silhouette"], light=0, kinds=("plain",))
    for name in members("")[::8]:
        found = render_drawing(_drawing(name), style, Draws("silhouette", name))
        seen = found.mask
        inner = np.logical_and.reduce([np.roll(seen, shift, (0, 1)) for shift in _around()])
        outer = ~np.logical_or.reduce([np.roll(seen, shift, (0, 1)) for shift in _around()])
        flat, ground = np.unique(array(found.image)[inner], axis=0), np.unique(array(found.image)[outer], axis=0)
        assert len(ground) == 1 and not (flat == ground).all(axis=1).any(), name
        assert most_common_share(array(found.image)[inner]) > 0.97, name  # parts may leave a hair between them


def test_a_square_with_a_hole_is_seen_where_it_was_drawn() -> None:
    text = """
[frame]
turn = 0
[[frame.part]]
jitter = {move = 0, grow = 0, turn = 0}
shapes = [{rect = [0, 0, 100, 100], fill = "red"}, {rect = [25, 25, 75, 75], fill = "hole"}]
"""
    found = render_drawing(parse_drawings(text, "test")["frame"], STILL, Draws("square"))
    left, top, right, bottom = found.box
    assert abs(right - left - 32) <= 1 and abs(bottom - top - 32) <= 1  # half the picture's side
    expected = np.zeros((64, 64), dtype=np.bool_)
    expected[top:bottom, left:right] = True
    expected[top + 8 : bottom - 8, left + 8 : right - 8] = False
    assert (found.mask != expected).sum() <= 4 * (32 + 16)  # a pixel along each edge
    assert found.mask.sum() == pytest.approx(32 * 32 - 16 * 16, rel=0.08)


def test_things_in_front_hide_a_part_and_leave_the_rest() -> None:
    style = DOMAINS["paint"]
    shares = []
    for i in range(20):
        bare, covered = (
            render_drawing(_drawing("house"), replace(style, cover=cover), Draws("cover", i)) for cover in (0, 1)
        )
        assert not (covered.mask & ~bare.mask).any()
        shares.append(covered.mask.sum() / bare.mask.sum())
    assert min(shares) >= 0.7 and sum(share < 0.99 for share in shares) > 10


def test_pictures_of_a_class_differ() -> None:
    found = [picture("fish", i, split="train") for i in range(16)]
    assert len({image.image.tobytes() for image in found}) == 16
    assert len({r.colours["body"] for r in found}) >= 4
    assert len({"rows of scales" in r.phrases for r in found}) == 2
    widths = [r.box[2] - r.box[0] for r in found]
    assert max(widths) - min(widths) >= 10


def test_splits_share_no_picture() -> None:
    keys = [(split, i) for split, n in COUNTS.items() for i in range(n)]
    drawn = {picture("bee", i, split=split, domain="silhouette").image.tobytes() for split, i in keys}
    assert len(drawn) == sum(COUNTS.values()) == 104


def test_domains_differ_as_they_say() -> None:
    names = members("")[::6]
    of = {d: [picture(name, 0, domain=d, split="train") for name in names] for d in DOMAINS}
    pixels = {d: np.stack([array(r.image) for r in found]).astype(int) for d, found in of.items()}
    areas = {d: np.mean([r.mask.mean() for r in found]) for d, found in of.items()}
    colourful = {d: (p.max(axis=-1) - p.min(axis=-1)).mean() for d, p in pixels.items()}
    light = {d: p.mean() for d, p in pixels.items()}
    for i, domain in enumerate(DOMAINS):
        assert all(np.abs(pixels[domain] - pixels[other]).mean() > 20 for other in list(DOMAINS)[:i])
    assert light["night"] < 0.6 * light["paint"] < light["paint"] < light["sketch"]
    assert colourful["sketch"] < 0.6 * colourful["paint"]
    assert areas["crowded"] < 0.6 * areas["paint"]
    for image, seen in zip(pixels["silhouette"], [r.mask for r in of["silhouette"]], strict=True):
        assert image[seen].std(axis=0).mean() < 25


def test_outliers() -> None:
    texture = picture("bricks", 0)
    assert not texture.mask.any() and texture.box == (0, 0, 0, 0)
    assert len(np.unique(array(texture.image).reshape(-1, 3), axis=0)) < 40  # two colours and their mixtures
    assert picture("Q", 0).mask.any()
    assert picture("Q", 0, domain="paint").image.tobytes() != picture("Q", 1).image.tobytes()


@pytest.mark.parametrize(
    ("name", "index", "where", "message", "hint"),
    [
        ("bycicle", 0, {}, "no class 'bycicle'", "did you mean 'bicycle'?"),
        ("cat", 0, {"domain": "nite"}, "no domain 'nite'", "did you mean 'night'?"),
        ("cat", 0, {"split": "tets"}, "no split 'tets'", "did you mean 'test'?"),
        ("cat", -1, {}, "picture -1 of 'cat': pictures are numbered from 0", None),
        ("star", 0, {}, "no class 'star'", None),
    ],
)
def test_what_is_not_there(name: str, index: int, where: dict[str, str], message: str, hint: str | None) -> None:
    with pytest.raises(InputError) as error:
        picture(name, index, **where)
    assert message in error.value.message
    assert hint is None or error.value.hint == hint


def _drawing(name: str):  # type: ignore[no-untyped-def]
    return next(drawings(group)[name] for group in GROUPS if name in drawings(group))


def _around() -> list[tuple[int, int]]:
    return [(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]

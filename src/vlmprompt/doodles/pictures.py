"""The pictures of the built-in world: each a pure function of its split, domain, class and number."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from vlmprompt.api import InputError, did_you_mean
from vlmprompt.doodles.domains import DOMAINS, GLYPHS
from vlmprompt.doodles.drawing import Drawing
from vlmprompt.doodles.draws import Draws
from vlmprompt.doodles.parse import GROUPS, drawings
from vlmprompt.doodles.render import Rendered, render_drawing
from vlmprompt.doodles.textures import TEXTURES, render_texture

VERSION = 1  # of every pixel; part of each picture's key
COUNTS: Mapping[str, int] = {"train": 64, "val": 8, "test": 32}  # pictures a class
DEFAULT_DOMAIN = "paint"
OUTLIERS = ("unseen", "textures", "glyphs")
# Pairs of classes that differ in a detail.
LOOKALIKES = (
    ("apple", "tomato"),
    ("bus", "tram"),
    ("butterfly", "moth"),
    ("clock", "compass"),
    ("frog", "toad"),
)


@cache
def members(collection: str) -> tuple[str, ...]:
    """The class names of a collection, in alphabetical order: of a group, of an outlier set, or of all groups ("")."""
    if collection == "lookalikes":
        return tuple(sorted(name for pair in LOOKALIKES for name in pair))
    if collection == "textures":
        return tuple(sorted(TEXTURES))
    groups = (collection,) if collection else GROUPS
    return tuple(sorted(name for group in groups for name in drawings(group)))


def picture(name: str, index: int, *, domain: str = DEFAULT_DOMAIN, split: str = "test") -> Rendered:
    """Picture `index` of a class, with the mask and box of its object.

    Args:
        name: a class of the built-in world or of its outlier sets.
        index: any number from 0; the data sets hold the first `COUNTS[split]`.
        domain: see `domains.DOMAINS`; textures and glyphs have one look in all of them.
        split: "train", "val" or "test": no two splits share a picture.

    Raises:
        InputError: unknown class, domain or split, or a negative index.
    """
    _check(split, "split", tuple(COUNTS))
    _check(domain, "domain", tuple(DOMAINS))
    if index < 0:
        raise InputError(f"picture {index} of {name!r}: pictures are numbered from 0")
    draws = Draws(VERSION, split, domain, name, index)
    if name in TEXTURES:
        return render_texture(name, draws)
    drawing = _drawing(name)
    return render_drawing(drawing, GLYPHS if drawing.group == "glyphs" else DOMAINS[domain], draws)


def _drawing(name: str) -> Drawing:
    known = _every()
    _check(name, "class", tuple(known))
    return known[name]


@cache
def _every() -> Mapping[str, Drawing]:
    return {name: drawing for group in (*GROUPS, "unseen", "glyphs") for name, drawing in drawings(group).items()}


def _check(value: str, what: str, options: tuple[str, ...]) -> None:
    if value not in options:
        raise InputError(f"the built-in world has no {what} {value!r}", hint=did_you_mean(value, options))

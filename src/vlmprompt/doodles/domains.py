"""The domains of the built-in world: the same classes, drawn and photographed differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vlmprompt.doodles.figure import Pose

Range = tuple[float, float]


@dataclass(frozen=True)
class Style:
    """How a domain's pictures are made. Lengths are shares of the picture's side.

    Attributes:
        size: of the object's longer side.
        outside: how far the object's box may reach beyond the picture, at most a seventh of its own side.
        pose: see `figure.Pose`.
        technique: "colours", "sketch" or "silhouette".
        edges: widths of outlines to choose from, in quarters of a pixel.
        kinds: background patterns to choose from.
        palette: background colours to choose from.
        contrast: of the background's pattern.
        clutter: smallest and largest number of small things behind the object.
        clutter_size: their size.
        cover: probability of a small thing in front of the object.
        shadow: probability of a cast shadow.
        light: largest change of brightness across the picture.
        night: dark, with a colour cast and noise.
    """

    size: Range
    outside: float
    pose: Pose
    technique: str
    edges: Sequence[int]
    kinds: Sequence[str]
    palette: Sequence[str]
    contrast: float
    clutter: tuple[int, int]
    clutter_size: Range
    cover: float
    shadow: float
    light: float
    night: bool = False


PAINT = Style(
    size=(0.66, 0.94),
    outside=0.05,
    pose=Pose(),
    technique="colours",
    edges=(0, 3, 3, 4, 5),
    kinds=("plain", "horizon", "stripes", "checks", "dots", "blotches", "waves", "rays"),
    palette=(
        "cream",
        "sky blue",
        "mint",
        "lavender",
        "peach",
        "tan",
        "silver",
        "teal",
        "olive",
        "grey",
        "navy",
        "white",
        "rust",
    ),
    contrast=0.55,
    clutter=(0, 5),
    clutter_size=(0.1, 0.2),
    cover=0.35,
    shadow=0.6,
    light=0.3,
)

DOMAINS: Mapping[str, Style] = {
    "paint": PAINT,
    "sketch": replace(
        PAINT,
        technique="sketch",
        edges=(3, 4, 5),
        kinds=("plain", "plain", "stripes", "waves"),
        palette=("white", "cream", "silver"),
        contrast=0.3,
        clutter=(0, 2),
        cover=0.15,
        shadow=0,
        light=0.1,
    ),
    "silhouette": replace(
        PAINT,
        technique="silhouette",
        edges=(0,),
        kinds=("plain", "horizon", "blotches"),
        contrast=0.35,
        clutter=(0, 0),
        cover=0,
        shadow=0,
        light=0.15,
    ),
    "crowded": replace(PAINT, size=(0.45, 0.6), clutter=(9, 16), clutter_size=(0.14, 0.27), cover=0.5),
    "night": replace(PAINT, night=True, light=0.6, shadow=0.2),
    "v2": replace(
        PAINT,
        size=(0.56, 0.86),
        pose=Pose(turn=1.7, squash=0.24, shear=0.22, warp=3.5),
        edges=(0, 0, 4, 6),
        kinds=("horizon", "stripes", "checks", "blotches", "rays"),
        palette=("amber", "coral", "green", "violet", "cyan", "brown", "pink", "charcoal", "lime", "blue"),
        contrast=0.8,
        clutter=(2, 7),
        cover=0.45,
        light=0.4,
    ),
}

GLYPHS = replace(PAINT, size=(0.55, 0.85), clutter=(0, 0), cover=0)

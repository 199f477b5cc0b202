"""Layers drawn once: objects and grammar scenes (colour and opacity), patterns of backgrounds, small things.

Shapes: N layers, 64 x 64 pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from pretraining.captions import GROUND_PATTERNS
from pretraining.grammar import UNITS, Scene, draw_scene, scene_drawing
from vlmprompt.doodles import backgrounds
from vlmprompt.doodles.colours import COLOURS, RGB, varied
from vlmprompt.doodles.drawing import Drawing
from vlmprompt.doodles.draws import Draws
from vlmprompt.doodles.figure import Figure, Pose, figure, placed, posed
from vlmprompt.doodles.geometry import Outlines, Ring, grow
from vlmprompt.doodles.ink import CANVAS, FINE, Ink, Pixels, blank, draw_figure, pixels
from vlmprompt.doodles.parse import GROUPS, drawings

MIDDLE = (CANVAS / 2, CANVAS / 2)
_POSE = Pose(turn=0.8, squash=0.1, shear=0.09, warp=1.6)
_PAPERS = ("white", "cream", "yellow", "pink")


@dataclass(frozen=True)
class Plain:
    """How pretraining draws: plainer than the domain `paint`. Lengths are shares of the picture's side.

    Attributes:
        size: of the longer side of an object.
        pose: see `figure.Pose`.
        edges: widths of outlines, in quarters of a pixel.
        lines: probability that a class is drawn in lines alone.
        palette: background colours.
        clutter: probability of small things behind the object.
        cover: probability of small things in front of it.
        contrast: largest share of the second background colour.
        light: largest relative change of brightness.
        cast: largest relative change of each colour channel.
    """

    size: tuple[float, float] = (0.55, 0.88)
    pose: Pose = _POSE
    edges: Sequence[int] = (0, 0, 3, 4)
    lines: float = 0.1
    palette: Sequence[str] = ("white", "cream", "yellow", "pink", "sky blue", "lime", "silver", "coral", "violet",
                              "black", "brown", "cyan")  # fmt: skip
    clutter: float = 0.6
    cover: float = 0.25
    contrast: float = 0.4
    light: float = 0.3
    cast: float = 0.12


@dataclass(frozen=True)
class Layer:
    """One drawn layer and what is known of it.

    Attributes:
        pixels: (64, 64, 4), colour premultiplied by opacity.
        box: left, top, right, bottom in pixels.
        main: its largest colours, for the choice of a background.
        name: class, or None for a scene of the grammar.
    """

    pixels: Pixels
    box: tuple[int, int, int, int]
    main: tuple[RGB, ...]
    name: str | None
    group: str | None
    colours: tuple[str, ...]
    phrases: tuple[str, ...]
    scene: Scene | None
    flip: bool


@dataclass(frozen=True)
class Bank:
    """All layers as tensors.

    Attributes:
        layers: what is known of each.
        rgba: (N,4,64,64) uint8.
        boxes: (N,4).
        main: (N,3,3) colours, 0 to 255.
        patterns: by name of `GROUND_PATTERNS`, (M,64,64) uint8.
        clutter: (C,4,64,64) uint8.
        class_rows: class name -> its rows of `rgba`.
        scene_rows: rows of grammar scenes.
    """

    layers: Sequence[Layer]
    rgba: Tensor
    boxes: Tensor
    main: Tensor
    patterns: dict[str, Tensor]
    clutter: Tensor
    class_rows: dict[str, list[int]]
    scene_rows: list[int]


def build_bank(seed: int, per_class: int, scenes: int, plain: Plain, workers: int = 1) -> Bank:
    """Draw everything; the same for the same arguments, whatever `workers`."""
    known = [(drawing, seed, per_class, plain) for group in GROUPS for drawing in drawings(group).values()]
    chunks = [(seed, first, min(64, scenes - first), plain) for first in range(0, scenes, 64)]
    with ProcessPoolExecutor(workers) as pool:
        layers = [layer for part in pool.map(_class_layers, known) for layer in part]
        layers += [layer for part in pool.map(_scene_layers, chunks) for layer in part]
    rows: dict[str, list[int]] = {}
    for i, layer in enumerate(layers):
        if layer.name is not None:
            rows.setdefault(layer.name, []).append(i)
    n_classes = sum(map(len, rows.values()))
    return Bank(
        layers,
        _stack([layer.pixels for layer in layers]),
        torch.tensor([layer.box for layer in layers]),
        torch.tensor([(layer.main * 3)[:3] for layer in layers], dtype=torch.float32),
        {name: _patterns(name, seed, 1 if name == "plain" else 192) for name in GROUND_PATTERNS},
        _stack([_clutter(Draws("pretraining", seed, "clutter", i), plain) for i in range(768)]),
        rows,
        list(range(n_classes, len(layers))),
    )


def _stack(layers: Sequence[Pixels]) -> Tensor:
    return torch.from_numpy(np.stack(layers)).permute(0, 3, 1, 2).contiguous()


def _class_layers(job: tuple[Drawing, int, int, Plain]) -> list[Layer]:
    drawing, seed, count, plain = job
    return [_class_layer(drawing, plain, Draws("pretraining", seed, drawing.name, i)) for i in range(count)]


def _class_layer(drawing: Drawing, plain: Plain, draws: Draws) -> Layer:
    fig = posed(figure(drawing, draws.fork("figure")), drawing, plain.pose, draws.fork("pose"))
    fig = placed(fig, draws.uniform(*plain.size) * CANVAS, MIDDLE)
    ink, colours, phrases = _ink(plain, draws.fork("ink")), tuple(dict.fromkeys(fig.colours.values())), fig.phrases
    if draws.chance(plain.lines):
        ink, colours, phrases = _line_ink(draws.fork("lines")), (), tuple(filter(_colourless, fig.phrases))
    return _layer(fig, ink, drawing.name, drawing.group, colours, phrases, None, drawing.flip)


def _scene_layers(job: tuple[int, int, int, Plain]) -> list[Layer]:
    seed, first, count, plain = job
    streams = [Draws("pretraining", seed, "scene", first + i) for i in range(count)]
    layers = []
    for draws in streams:
        scene = draw_scene(draws.fork("scene"))
        fig = figure(scene_drawing(scene, draws.fork("layout")), draws.fork("figure"))
        fig = fig.mapped(grow(CANVAS / UNITS, CANVAS / UNITS))
        flip = scene.relation not in ("to the left of", "to the right of")
        layers.append(_layer(fig, _ink(plain, draws.fork("ink")), None, None, (), (), scene, flip))
    return layers


def _layer(
    fig: Figure,
    ink: Ink,
    name: str | None,
    group: str | None,
    colours: tuple[str, ...],
    phrases: tuple[str, ...],
    scene: Scene | None,
    flip: bool,
) -> Layer:
    canvas = blank()
    draw_figure(canvas, fig, ink)
    x0, y0, x1, y1 = (int(side) // FINE for side in fig.bounds)
    box = (max(x0, 0), max(y0, 0), min(x1 + 1, 64), min(y1 + 1, 64))
    return Layer(pixels(canvas), box, tuple(fig.main_colours), name, group, colours, phrases, scene, flip)


def _ink(plain: Plain, draws: Draws) -> Ink:
    edge = varied(COLOURS["black"], draws, 12) if draws.chance(0.5) else None
    return Ink(edge=edge, width=draws.choice(plain.edges))


def _line_ink(draws: Draws) -> Ink:
    paper = varied(COLOURS[draws.choice(_PAPERS)], draws, 12)
    return Ink(edge=varied(COLOURS["black"], draws, 40), width=draws.choice((2, 3)), paper=paper)


def _colourless(phrase: str) -> bool:
    return not any(word in COLOURS for word in phrase.split())


def _patterns(name: str, seed: int, count: int) -> Tensor:
    return torch.from_numpy(np.stack([_pattern(name, Draws("pretraining", seed, name, i)) for i in range(count)]))


def _pattern(name: str, draws: Draws) -> Pixels:
    canvas = Image.new("L", (CANVAS, CANVAS))
    pen = ImageDraw.Draw(canvas)
    backgrounds.PATTERNS[name](draws, partial(_brush, pen))
    return np.asarray(canvas.reduce(FINE))


def _brush(pen: ImageDraw.ImageDraw, outline: Ring | Outlines) -> None:
    rings = outline.transpose(1, 2, 0).tolist() if isinstance(outline, np.ndarray) else [outline]
    for ring in rings:
        pen.polygon([(round(x), round(y)) for x, y in ring], fill=255)


def _clutter(draws: Draws, plain: Plain) -> Pixels:
    """One to three small things anywhere."""
    canvas = blank()
    ink = _ink(plain, draws.fork("ink"))
    for fig in _small_things(draws, plain):
        draw_figure(canvas, fig, ink)
    return pixels(canvas)


def _small_things(draws: Draws, plain: Plain) -> Iterator[Figure]:
    for _ in range(draws.integer(1, 3)):
        drawing = draws.choice(tuple(drawings("clutter").values()))
        fig = posed(figure(drawing, draws), drawing, plain.pose, draws)
        centre = (draws.uniform(0, CANVAS), draws.uniform(0, CANVAS))
        yield placed(fig, draws.uniform(0.1, 0.18) * CANVAS, centre)

"""One picture: images as the tower sees them, beside maps of their patches, a row for each class that is asked about.

Shapes: H x W pixels of the tower's input, N patches in a grid.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ft2font import FT2Font
from torch import Tensor

from vlmprompt.data.preprocess import PreprocessConfig
from vlmprompt.methods.patch_maps import MapKind
from vlmprompt.shown import line

Array = npt.NDArray[np.float64]

COLOURS = "viridis"  # even to the eye, and the same to those who do not tell red from green
PANEL, TEXT, BAR, MARGIN = 1.72, 0.42, 0.72, 0.08  # inches
DPI, FONT = 110, 7.5
OUTLINE = "#440154"  # the dark end of the colours
DIMMED = 0.28  # of what was not chosen
OPAQUE = 0.62  # of a map over the image, which is grey
LONGEST = 26  # characters of a class name
WIDEST = (PANEL + MARGIN) * 72 / FONT  # the same in heights of a letter
SCALES: dict[MapKind, str] = {
    "plan": "share of the prompt's mass",
    "cosines": "cosine",
    "attention": "of the largest",
}


@dataclass(frozen=True)
class Panel:
    """One map.

    Attributes:
        title: what it is of.
        values_N: see `PatchMap`.
        note: a few words below the title, or None.
    """

    title: str
    values_N: Tensor
    note: str | None


@dataclass(frozen=True)
class Row:
    """An image and the maps of one class.

    Attributes:
        title: above the image: what the class is to it.
        image_HW3: what the tower sees, 0 to 1, see `pixels`.
    """

    title: str
    image_HW3: Array
    panels: tuple[Panel, ...]


def draw(grid: tuple[int, int], kind: MapKind, rows: Sequence[Row]) -> bytes:
    """A PNG: images in the first column, a panel for each map; the same input gives the same bytes.

    Args:
        grid: rows and columns of patches.
        kind: of all maps.
        rows: of images of one size.
    """
    height, width = rows[0].image_HW3.shape[:2]
    high, wide = PANEL * min(1.0, height / width), PANEL * min(1.0, width / height)
    columns = 1 + max(len(row.panels) for row in rows)
    bar = BAR if kind in SCALES else 0.0
    size = (columns * (PANEL + MARGIN) + MARGIN + bar, len(rows) * (high + TEXT) + MARGIN)
    figure = Figure(figsize=size, dpi=DPI, facecolor="white")
    scale = _scale(kind, rows)
    for i, row in enumerate(rows):
        bottom = size[1] - (i + 1) * (high + TEXT)
        for j in range(1 + len(row.panels)):
            left = (
                MARGIN + j * (PANEL + MARGIN) + (PANEL - wide) / 2
            )  # words need the room that a narrow image does not
            place = (left, bottom, wide, high)
            axes = figure.add_axes(tuple(part / size[n % 2] for n, part in enumerate(place)))
            axes.set_axis_off()
            panel = row.panels[j - 1] if j else None
            shown = row.image_HW3 if panel is None else _over(row.image_HW3, grid, kind, panel.values_N, scale)
            axes.imshow(shown, interpolation="nearest", aspect="auto")
            _head(axes, row.title if panel is None else panel.title, None if panel is None else panel.note)
            if panel is not None and kind == "patches":
                _outline(axes, panel.values_N.reshape(grid).numpy() > 0, (height, width))
    if kind in SCALES:
        _bar(figure, size, scale, SCALES[kind])
    return _png(figure)


def pixels(pixels_3HW: Tensor, preprocess: PreprocessConfig) -> Array:
    """What the tower sees, as colours again: (H,W,3) in 0 to 1."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocess.mean, preprocess.std))
    seen: Array = (pixels_3HW.cpu() * std + mean).clamp(0, 1).permute(1, 2, 0).double().numpy()
    return seen


def short(name: str) -> str:
    """A class name that fits above a panel."""
    name = line(name)
    if len(name) <= LONGEST and _wide(name) <= WIDEST:
        return name
    cut = name[: LONGEST - 1]
    while _wide(cut) > WIDEST - 1:
        cut = cut[:-1]
    return f"{cut.rstrip()}…"


def lacking(text: str) -> str:
    """The letters of a text that the font of the pictures has not."""
    drawn = _font().get_charmap()
    return "".join(letter for letter in line(text) if ord(letter) not in drawn)


def _font() -> FT2Font:
    return get_font(findfont(FontProperties()))


def _wide(text: str) -> float:
    """The width of a line, in heights of its letters."""
    font = _font()
    font.set_size(1, 72)
    known = font.get_charmap()
    return sum(font.load_char(ord(c)).linearHoriAdvance / 65536 if ord(c) in known else 1.0 for c in text)


def _scale(kind: MapKind, rows: Sequence[Row]) -> Normalize:
    """One scale for all panels, so that they can be compared; of attention, which has no size, each has its own."""
    if kind == "attention":
        return Normalize(0, 1)
    values = torch.cat([panel.values_N.flatten() for row in rows for panel in row.panels])
    return Normalize(0 if kind == "plan" else float(values.min()), float(values.max()))


def _over(image_HW3: Array, grid: tuple[int, int], kind: MapKind, values_N: Tensor, scale: Normalize) -> Array:
    """The image under a map."""
    values = values_N.double().reshape(grid).numpy()
    height, width = image_HW3.shape[:2]
    grey_HW1 = image_HW3 @ np.array([[0.299], [0.587], [0.114]])
    if kind == "patches":
        light_HW1 = _spread(values, height, width)[..., None]
        return light_HW1 * image_HW3 + (1 - light_HW1) * (1 - DIMMED + DIMMED * grey_HW1)
    if kind == "attention":
        values = values / (values.max() or 1.0)
    colour_HW3 = colormaps[COLOURS](_spread(np.asarray(scale(values)), height, width))[..., :3]
    over: Array = OPAQUE * colour_HW3 + (1 - OPAQUE) * grey_HW1
    return over


def _spread(values: Array, height: int, width: int) -> Array:
    """A value for each pixel, that of the patch which it is in."""
    rows, columns = values.shape
    return values[(np.arange(height) * rows // height)[:, None], np.arange(width) * columns // width]


def _outline(axes: Any, chosen: npt.NDArray[np.bool_], size: tuple[int, int]) -> None:
    """A line between patches of which one was chosen, at the edge of the image too."""
    framed = np.pad(chosen, 1)
    above = np.argwhere(framed[1:, 1:-1] != framed[:-1, 1:-1])
    left = np.argwhere(framed[1:-1, 1:] != framed[1:-1, :-1])
    ends = [((j, i), (j + 1, i)) for i, j in above] + [((j, i), (j, i + 1)) for i, j in left]
    step_xy = np.array([size[1] / chosen.shape[1], size[0] / chosen.shape[0]])
    lines = np.array(ends, dtype=float).reshape(-1, 2, 2) * step_xy - 0.5  # of a pixel, where an image begins
    axes.add_collection(LineCollection(list(lines), colors=OUTLINE, linewidths=1.4, capstyle="round"), autolim=False)


def _head(axes: Any, title: str, note: str | None) -> None:
    """One or two lines above a panel. Dollar signs of names are no formulas."""
    text = title if note is None else f"{title}\n{note}"
    axes.set_title(text, fontsize=FONT, pad=3, linespacing=1.15, parse_math=False)


def _bar(figure: Figure, size: tuple[float, float], scale: Normalize, label: str) -> None:
    """The scale, beside the first rows."""
    wide, high = size
    tall = min(high - TEXT - 2 * MARGIN, PANEL)
    axes = figure.add_axes(((wide - BAR + 0.04) / wide, (high - TEXT - tall) / high, 0.09 / wide, tall / high))
    bar = figure.colorbar(ScalarMappable(scale, COLOURS), cax=axes)
    bar.set_label(label, fontsize=FONT - 0.5)
    bar.ax.tick_params(labelsize=FONT - 1.5, length=2)
    bar.outline.set_visible(False)


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # a name in a script of no font here
        FigureCanvasAgg(figure)
        figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()

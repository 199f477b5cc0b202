"""Figures drawn by matplotlib: as SVG that a page can hold, and as files of their own for papers.

The same data give the same bytes. No text is read as a formula: class names hold dollar signs.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from vlmprompt import shown
from vlmprompt.report.section import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

# Okabe and Ito's colours, those first that stand out from white and from black alike (contrast of 3 with both).
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
MARKERS = ("o", "s", "D", "^", "v", "P")
DASHES = ("-", "--", "-.", ":")
# Text and axes are drawn in this colour, which is nobody else's, and take that of the page's text afterwards.
INK = "#010203"
PAPER_INK, PAPER = "#1a1a1a", "#ffffff"
FORMATS = ("svg", "pdf", "png")
LONGEST_NAME = 26  # characters of a class name in a figure
DPI = 200
_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
_FONTS = re.compile(r"(font:[^;']*|font-family: *)'DejaVu Sans'[^;]*")
_ENDS = (1 / 3, 1 / 2, 2 / 3, 5 / 6)  # shares of the last letters in a shortened name
_DIGITS = re.compile(r"\d+\.\d{3,}")
_PLACES = frozenset({"d", "x", "y", "transform", "width", "height"})
_REFERENCE = re.compile(r"(url\(#)([\w-]+)")
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "text.parse_math": False,
    "path.simplify": False,  # what is thinned is thinned by us, and said
    "font.family": "DejaVu Sans",  # comes with matplotlib, and is wide: where it fits, a page's own letters do
    "font.size": 9,
    "axes.titlesize": 9,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.18,
    "grid.linewidth": 0.6,
    "axes.linewidth": 0.7,
    "hatch.linewidth": 0.5,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
    "image.interpolation": "none",
}

Plot = Callable[["Canvas"], None]


class Names:
    """Names of figures, each given once."""

    def __init__(self, section: str) -> None:
        self._section = section
        self._given: set[str] = set()

    def of(self, *words: str) -> str:
        """`<section>-<words>`, of letters, digits and hyphens; with a number where it is taken."""
        plain = re.sub(r"[^A-Za-z0-9]+", "-", "-".join((self._section, *words))).strip("-")[:100]
        name, number = plain, 1
        while name.lower() in self._given:
            number += 1
            name = f"{plain}-{number}"
        self._given.add(name.lower())
        return name


def drawn(name: str, title: str, caption: str, plot: Plot, size: tuple[float, float] = (6.4, 3.0)) -> Figure:
    """A figure of a section.

    Args:
        name, title, caption: see `Figure`.
        plot: draws into an empty figure of matplotlib.
        size: width and height in inches.
    """
    svg = _text(_svg(name, title, plot, size))
    return Figure(name, title, caption, svg, partial(_file, name, title, plot, size))


def look(number: int) -> dict[str, Any]:
    """Colour, marker and dash of the n-th line: no two of the first 24 look alike, also without colours."""
    turn = number // len(PALETTE)
    return {
        "color": PALETTE[number % len(PALETTE)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": DASHES[turn % len(DASHES)],
    }


def short(name: str, most: int = LONGEST_NAME, end: float = 1 / 3) -> str:
    """A name that fits into a figure, in one line; of a long one both ends, `end` being the share of the last."""
    line = shown.line(name)
    if len(line) > most:
        tail = int(most * end)
        line = f"{line[: most - tail - 1]}…{line[-tail:]}"
    return f" {line}" if line.startswith("_") else line  # matplotlib leaves out of a legend what begins with "_"


def all_short(names: Sequence[str], most: int = LONGEST_NAME) -> list[str]:
    """Names that fit into a figure: different ones stay different, as long as their ends differ."""
    for end in _ENDS:
        found = [short(name, most, end) for name in names]
        if len(set(found)) == len(set(names)):
            return found
    return [short(name, most) for name in names]


def _file(name: str, title: str, plot: Plot, size: tuple[float, float], kind: str) -> bytes:
    """The figure as a file that stands alone, dark on white; `kind` is one of FORMATS."""
    if kind == "svg":
        return _alone(_svg(name, title, plot, size)).encode()
    return _saved(plot, size, name, kind, PAPER_INK)


@contextmanager
def _styled(ink: str, salt: str) -> Iterator[None]:
    """Whatever the user's own settings of matplotlib are, figures look as here."""
    import matplotlib as mpl
    from matplotlib import style

    inks = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color")
    with style.context(["default", _STYLE | dict.fromkeys(inks, ink) | {"svg.hashsalt": salt}]):
        mpl.rcParams["axes.titlecolor"] = ink
        yield


def _saved(plot: Plot, size: tuple[float, float], name: str, kind: str, ink: str) -> bytes:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    dates: dict[str, dict[str, None]] = {
        "svg": dict.fromkeys(("Date", "Creator")),
        "pdf": dict.fromkeys(("CreationDate", "Creator", "Producer")),
        "png": dict.fromkeys(("Software",)),
    }
    file = io.BytesIO()
    with _styled(ink, name), warnings.catch_warnings():
        # Letters that matplotlib's font lacks are the browser's to find; elsewhere they are boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        canvas = Canvas(figsize=size, layout="constrained")
        canvas.patch.set_visible(kind != "svg")
        plot(canvas)
        for axes in canvas.axes:
            axes.patch.set_visible(False)
        if kind == "svg":
            # `savefig` draws a figure twice, the first time for its layout, which belongs to drawing anyhow.
            canvas.dpi = 72
            FigureCanvasSVG(canvas).print_svg(file, metadata=dates[kind])  # type: ignore[no-untyped-call]
        else:
            canvas.savefig(file, format=kind, dpi=DPI, metadata=dates[kind])
    return file.getvalue()


def _svg(name: str, title: str, plot: Plot, size: tuple[float, float]) -> ElementTree.Element:
    """The figure as an element, transparent, with the ids that it needs and no one else has."""
    root = ElementTree.fromstring(_saved(plot, size, name, "svg", INK))
    width, height = (f"{72 * inches:g}" for inches in size)
    for element in list(root.iter()):
        for child in list(element):
            # The style sheet would be the whole page's.
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                element.remove(child)
    used = {found for element in root.iter() for item in element.attrib.items() for found in _references(*item)}
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        element.text = element.text if element.tag == "text" else None
        element.tail = None
        attributes = {key: _attribute(key, value, name) for key, value in element.attrib.items()}
        identity = attributes.pop("id", None)
        link = attributes.pop(_LINK, None)
        element.attrib.clear()
        element.attrib.update(attributes)
        if identity in used:
            element.set("id", f"{name}-{identity}")
        if link is not None:
            element.set("href", link)
    root.attrib.clear()
    root.attrib.update(
        {
            "xmlns": _SVG,
            "viewBox": f"0 0 {width} {height}",
            "role": "img",
            "aria-label": shown.line(title),
            "width": f"{96 * size[0]:.0f}",
            "height": f"{96 * size[1]:.0f}",
            "style": "max-width:100%;height:auto;stroke-linejoin:round;stroke-linecap:butt",
        }
    )
    return root


def _references(key: str, value: str) -> list[str]:
    """The ids that an attribute refers to."""
    if key == _LINK:
        return [value[1:]] if value.startswith("#") else []
    return [found[2] for found in _REFERENCE.finditer(value)]


def _attribute(key: str, value: str, name: str) -> str:
    if key == "id":
        return value
    if key == _LINK:
        return f"#{name}-{value[1:]}" if value.startswith("#") else value
    value = _REFERENCE.sub(rf"\g<1>{name}-\g<2>", value)
    if key == "style":
        value = _FONTS.sub(r"\g<1>system-ui, sans-serif", value)
    if key in _PLACES:  # of points, 72 to an inch
        value = " ".join(_DIGITS.sub(lambda found: f"{float(found[0]):.2f}", value).split())
    return value.replace(INK, "currentColor")


def _text(root: ElementTree.Element) -> str:
    return ElementTree.tostring(root, encoding="unicode")


def _alone(root: ElementTree.Element) -> str:
    """A document that is readable on any ground."""
    _, _, width, height = root.attrib["viewBox"].split()
    root.attrib |= {"width": f"{width}pt", "height": f"{height}pt"}
    root.set("style", f"color:{PAPER_INK};stroke-linejoin:round;stroke-linecap:butt")
    root.insert(0, ElementTree.Element("rect", {"width": "100%", "height": "100%", "fill": PAPER}))
    return f'<?xml version="1.0" encoding="utf-8"?>\n{_text(root)}\n'

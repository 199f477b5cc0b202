"""Figures as SVG and as files: what a page may hold, and what a reader sees."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import matplotlib as mpl
import pytest

from vlmprompt.report.drawing import DASHES, FORMATS, INK, PALETTE, Names, all_short, drawn, look, short
from vlmprompt.report.section import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

EVIL = ["<script>alert(1)</script>", "$x_1$", "_hidden", "50 % & more", "\x07bell"]
SVG = "{http://www.w3.org/2000/svg}"


def lines(canvas: Canvas) -> None:
    """Five lines with a legend, and a picture."""
    upper, lower = canvas.subplots(2, 1)
    for i, name in enumerate(EVIL):
        upper.plot([0, 1, 2], [i, i + 1, i], label=short(name), **look(i))
    upper.legend()
    lower.imshow([[0.0, 1.0], [1.0, 0.0]])
    lower.set_xticks([0, 1], [short(name) for name in EVIL[:2]])


@pytest.fixture(scope="module")
def figure() -> Figure:
    return drawn("ours-1", 'A "title" & <more>', "n = 3", lines)


def test_texts_stay_texts(figure: Figure) -> None:
    root = ElementTree.fromstring(figure.svg)
    shown = [element.text for element in root.iter(f"{SVG}text")]
    for text in ("<script>alert(1)</script>", "$x_1$", " _hidden", "50 % & more", "\\u0007bell"):
        assert text in shown
    assert root.get("aria-label") == 'A "title" & <more>'
    assert "<script" not in figure.svg


def test_nothing_reaches_beyond_the_figure(figure: Figure) -> None:
    root = ElementTree.fromstring(figure.svg)
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert tags.isdisjoint({"style", "metadata", "script", "foreignObject", "a"})
    links = [element.get("href", "") for element in root.iter() if "href" in element.attrib]
    ids = [element.get("id") for element in root.iter() if "id" in element.attrib]
    assert links and all(link.startswith(("#ours-1-", "data:image/png;base64,")) for link in links)
    assert len(ids) == len(set(ids)) and all(identity and identity.startswith("ours-1-") for identity in ids)
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    other = ElementTree.fromstring(drawn("ours-2", "t", "c", lines).svg)
    assert not set(ids) & {element.get("id") for element in other.iter() if "id" in element.attrib}


def test_ink_is_the_page_s(figure: Figure) -> None:
    assert "currentColor" in figure.svg and INK not in figure.svg
    root = ElementTree.fromstring(figure.svg)
    inks = {element.get("style", "").partition("fill: ")[2] for element in root.iter(f"{SVG}text")}
    assert inks == {"currentColor"}
    hatched = drawn("h", "t", "c", lambda canvas: canvas.subplots().bar([0], [1], color=PALETTE[0], hatch="//")).svg
    assert f'fill="{PALETTE[0]}"' in hatched and "url(#h-" in hatched
    assert all(f"stroke: {colour}" in figure.svg for colour in PALETTE[: len(EVIL)])


def test_the_same_data_give_the_same_bytes_whatever_the_user_s_settings(figure: Figure) -> None:
    with mpl.rc_context({"font.size": 30, "axes.grid": False, "text.color": "red", "svg.fonttype": "path"}):
        again = drawn("ours-1", 'A "title" & <more>', "n = 3", lines)
        assert mpl.rcParams["font.size"] == 30
    assert again.svg == figure.svg
    assert figure.file is not None and again.file is not None
    assert all(figure.file(kind) == again.file(kind) for kind in FORMATS)


def test_files_stand_alone(figure: Figure) -> None:
    assert figure.file is not None
    root = ElementTree.fromstring(figure.file("svg"))
    ground = root[0]
    assert (ground.tag, ground.get("fill"), ground.get("width")) == (f"{SVG}rect", "#ffffff", "100%")
    assert root.get("style", "").startswith("color:#1a1a1a;")
    assert (root.get("width"), root.get("height")) == ("460.8pt", "216pt")
    assert root.get("viewBox") == "0 0 460.8 216"
    pdf, png = figure.file("pdf"), figure.file("png")
    assert pdf.startswith(b"%PDF") and b"CreationDate" not in pdf
    assert png.startswith(b"\x89PNG") and b"Software" not in png


def luminance(colour: str) -> float:
    """Of WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("ground", ["#ffffff", "#14171a"])
def test_the_first_colours_stand_out_on_both_grounds(ground: str) -> None:
    def contrast(colour: str) -> float:
        low, high = sorted((luminance(colour), luminance(ground)))
        return (high + 0.05) / (low + 0.05)

    assert min(contrast(colour) for colour in PALETTE[:3]) >= 3
    assert min(contrast(colour) for colour in PALETTE) >= 2


def test_lines_look_different() -> None:
    looks = [tuple(look(i).values()) for i in range(len(PALETTE) * len(DASHES))]
    assert len(set(looks)) == 24


def test_names_of_figures_are_unique_and_safe_in_files_and_ids() -> None:
    names = Names("roc")
    found = [names.of("a/b: c"), names.of("A b", "c"), names.of("é…"), names.of("x" * 300)]
    assert found == ["roc-a-b-c", "roc-A-b-c-2", "roc", f"roc-{'x' * 96}"]


def test_long_names_keep_both_ends() -> None:
    assert short("a" * 30 + "z" * 30) == "a" * 17 + "…" + "z" * 8
    assert short("two\nlines") == "two lines"


def test_shortened_names_stay_different() -> None:
    runs = [f"coop-{'x' * 20}-{shots}shot-seed1" for shots in (1, 4)]
    assert len({short(name, 20) for name in runs}) == 1
    assert all_short(["coop", *runs], 20) == ["coop", "coop-x…x-1shot-seed1", "coop-x…x-4shot-seed1"]
    alike = ["a" * 30 + middle + "z" * 30 for middle in "xy"]
    assert all_short(alike, 20) == [short(name, 20) for name in alike]

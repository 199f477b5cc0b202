"""What a section of the page is made of: figures, tables and pictures, in plain data without any markup."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """One drawn figure.

    Attributes:
        name: stem of a file, unique on the page, such as "reliability-test".
        title: what is drawn.
        caption: how to read it; always says n.
        svg: an <svg> element that refers to nothing outside itself, in colours of CSS variables or currentColor. It
            is the only text of a section that goes onto the page as it is, so its own texts must be escaped.
        file: the figure as the content of a file that stands alone, in a format such as "pdf"; None where it cannot
            be drawn again.
    """

    name: str
    title: str
    caption: str
    svg: str
    file: Callable[[str], bytes] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        columns: headers.
        rows: as long as `columns`.
        caption: how to read the numbers.
        folded: shown closed, to be opened by who wants it.
        labels: so many columns from the left head words, the others numbers.
        footnotes: numbered from 1, referred to as "[1]".
        footer: a last row that says something of its columns, as long as them.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    folded: bool = False
    labels: int = 1
    footnotes: tuple[str, ...] = ()
    footer: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """One picture, such as a thumbnail.

    Attributes:
        data: the file's bytes.
        kind: of the file: "png", "jpeg", "webp" or "svg+xml".
        width, height: pixels that it is shown in; 0 and 0 leave it to the file.
        alt: what is to be seen, for who does not see it.
        lines: below the picture.
    """

    data: bytes
    kind: str
    width: int
    height: int
    alt: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pictures:
    """Pictures side by side; thumbnails, or wide ones."""

    title: str
    pictures: tuple[Picture, ...]
    caption: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Text:
    """A paragraph, where something has to be said in place of a figure."""

    text: str


@dataclass(frozen=True)
class Commands:
    """Lines for a shell, to be copied."""

    title: str
    lines: tuple[str, ...]
    caption: str = ""


Part = Figure | Table | Pictures | Text | Commands


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading of its own.

    Attributes:
        key: anchor, unique on the page.
        intro: one or two sentences of plain text.
    """

    key: str
    title: str
    intro: str
    parts: tuple[Part, ...]

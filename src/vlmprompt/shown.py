"""Words for people, and text from outside as a terminal may show it: names of classes and files, plugins' words.

A control character in it could move the cursor, colour the rest of the screen, or turn the order of letters
around; it is shown as its number instead, `\\u001b`, which JSON reads back.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

MOST = 1000  # characters of a line or a cell
TAIL = 200  # of them from the end
# Controls but for line feed and tab, bidirectional overrides, line separators, bytes that were no text.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def block(text: str) -> str:
    """A text of several lines, whole."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def cell(text: str) -> str:
    """A text of perhaps several lines; of a very long one both ends."""
    if len(text) > MOST:
        text = f"{text[: MOST - TAIL]} ... ({len(text):,} characters in all) ... {text[-TAIL:]}"
    return block(text)


def line(text: str) -> str:
    """A text in one line; of a very long one both ends."""
    return " ".join(cell(text).split("\n"))


def several(count: int, one: str, more: str) -> str:
    """A number with the words for one of a thing, or for another number of them: "1 cell was", "3 cells were"."""
    return f"{count} {one if count == 1 else more}"


def size(count: float) -> str:
    """A number of bytes: "20.1 GB", "3.4 MB", "8 kB"."""
    if count < 1e5:
        return f"{count / 1e3:.0f} kB"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def problem(error: ValidationError) -> str:
    """The first thing that a model refuses of a file: where it stands, and what is wrong with it."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or "JSON"
    return f"{where}: {first['msg']}"

"""As much of a description as a text tower reads, found with few looks at its tokens.

What comes from outside may be of any length, in one word or in thousands, and a tokenizer may take a long time for a
long word. So no more is tokenised than about twice what fits, and that some twenty times.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

FIRST_TRIED = 256  # characters


def shortened(text: str, fits: Callable[[str], bool]) -> str:
    """The longest beginning that fits: of whole words, or of the first word where that alone is too long.

    Args:
        fits: whether a tower reads a text to its end; if it does, it reads each of its beginnings.
    """
    length = FIRST_TRIED
    while length < len(text) and fits(text[:length]):
        length *= 2
    if length >= len(text) and fits(text):
        return text
    # The word at the length tried may fit as a whole where its beginning, in other tokens, does not.
    ends = [i for i, character in enumerate(text[: 2 * length]) if character == " "]
    end = _last(ends, lambda end: fits(text[:end])) or _last(range(1, length), lambda end: fits(text[:end]))
    return text[:end].rstrip(" ,;:")


def _last(ends: Sequence[int], fits: Callable[[int], bool]) -> int:
    """The last of rising ends at which a text fits; 0 if it fits at none."""
    count = bisect_right(ends, False, key=lambda end: not fits(end))
    return ends[count - 1] if count else 0

"""No text may be longer than its tower reads."""

from __future__ import annotations

from collections.abc import Sequence

from vlmprompt.backbones.types import ClassTokens
from vlmprompt.errors import InputError


def require_fitting(classes: ClassTokens, lengths: Sequence[int], limit: int) -> None:
    """Refuse texts that are too long.

    Args:
        classes: may come several times, each with a text of its own.
        lengths: tokens of each text.
        limit: longest text of the tower, in tokens.

    Raises:
        InputError: the message names the first class with its token count, and how many more there are.
    """
    long = {name: length for name, length in zip(classes.names, lengths, strict=True) if length > limit}
    if not long:
        return
    name, length = next(iter(long.items()))
    more = f" and of {len(long) - 1} more" if len(long) > 1 else ""
    raise InputError(
        f"the text of class {name[:60]!r}{more} is too long: {length} tokens with its prompt, and the text tower reads "
        f"{limit}",
        hint="shorten the name (--class-names FILE), the template or the description, or use fewer context tokens",
    )

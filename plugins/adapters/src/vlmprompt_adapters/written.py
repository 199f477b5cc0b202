"""Templates taken apart, so that what stands before the class names is encoded once for all of them."""

from __future__ import annotations

from vlmprompt.api import TextEngine


def parts(template: str) -> tuple[str, str]:
    """What stands before the class name in a template with one {}, and what stands behind it."""
    before, _, behind = template.partition("{}")
    return before.strip(), behind


def token_count(engine: TextEngine, words: str) -> int:
    """Tokens of words; none of no words."""
    return len(engine.tower.words.ids(words)) if words else 0


def without_first(engine: TextEngine, words: str, n: int) -> str | None:
    """Words without their first n tokens, empty where they have no more; None where a word is cut in two."""
    left = words.split()
    while left and token_count(engine, words) - token_count(engine, " ".join(left)) < n:
        left = left[1:]
    gone = token_count(engine, words) - token_count(engine, " ".join(left))
    return " ".join(left) if gone == n or not left else None

"""Brace patterns, `{0000..0007}` and `{train,test}`, as webdataset's users write them.

The rules are bash's, as webdataset has them from the package braceexpand (0.1.7): ranges of numbers and letters in
both directions and with a step, lists, braces within braces, and a number with a leading zero pads all of its range.
Differs from it: a backslash means itself, and a pattern of too many names is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from vlmprompt.errors import UsageError

MOST = 100_000  # names of one pattern
MOST_BRACES = 50
_NUMBERS = re.compile(r"(-?\d{1,18})\.\.(-?\d{1,18})(?:\.\.-?(\d{1,18}))?")
_LETTERS = re.compile(r"([A-Za-z])\.\.([A-Za-z])(?:\.\.-?(\d{1,18}))?")
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def expanded(pattern: str) -> list[str]:
    """The names that a pattern stands for, in its order; a pattern without braces stands for itself.

    Raises:
        UsageError: a brace has no partner, or there are more than `MOST` names or `MOST_BRACES` braces.
    """
    _check_partners(pattern)
    names = list(islice(_expanded(pattern), MOST + 1))
    if len(names) > MOST:
        hint = "count the shards that there are"
        raise UsageError(f"pattern {pattern} stands for more than {MOST:,} names", hint=hint)
    return names


def _check_partners(pattern: str) -> None:
    depth = 0
    for sign in pattern:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if depth < 0:
            break
    if pattern.count("{") > MOST_BRACES:
        raise UsageError(f"pattern {pattern[:40]}... has more than {MOST_BRACES} braces", hint="write a shorter one")
    if depth:
        raise UsageError(f"a brace has no partner in {pattern}", hint="such as train-{0000..0007}.tar")


def _expanded(pattern: str) -> Iterator[str]:
    start = pattern.find("{")
    if start < 0:
        yield pattern
        return
    end = _partner(pattern, start)
    for choice in _choices(pattern[start + 1 : end]):
        for rest in _expanded(pattern[end + 1 :]):
            yield pattern[:start] + choice + rest


def _partner(pattern: str, start: int) -> int:
    """Where the brace that opens at `start` closes."""
    depth = 0
    for i in range(start, len(pattern)):
        depth += {"{": 1, "}": -1}.get(pattern[i], 0)
        if depth == 0:
            return i
    raise AssertionError(pattern)


def _choices(inner: str) -> Iterator[str]:
    """What stands between two braces: a range, a list, or else text that keeps its braces."""
    if match := _NUMBERS.fullmatch(inner):
        yield from _numbers(match[1], match[2], int(match[3] or 1) or 1)
    elif match := _LETTERS.fullmatch(inner):
        first, last = (_ALPHABET.index(letter) for letter in match.group(1, 2))
        yield from (_ALPHABET[i] for i in _span(first, last, int(match[3] or 1) or 1))
    elif len(parts := _parts(inner)) > 1:
        for part in parts:
            yield from _expanded(part)
    else:
        yield from (f"{{{text}}}" for text in _expanded(inner))


def _numbers(first: str, last: str, step: int) -> Iterator[str]:
    padded = any(re.match("-?0.", number) for number in (first, last))
    width = max(len(first), len(last)) if padded else 0
    return (f"{number:0{width}d}" for number in _span(int(first), int(last), step))


def _span(first: int, last: int, step: int) -> range:
    return range(first, last + 1, step) if first < last else range(first, last - 1, -step)


def _parts(inner: str) -> list[str]:
    """Split at the commas that stand in no inner braces."""
    parts, depth = [""], 0
    for sign in inner:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return parts

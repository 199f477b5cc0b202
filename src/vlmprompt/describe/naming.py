"""Which other class a text on a class names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from vlmprompt.describe.lines import written

_TOKEN = re.compile(r"\w+|\W")
_ENDING = re.compile(r"(?:e?s)?(?!\w)")


class OtherNames:
    """Finds the names of other classes in a text, as whole words, the plural too; the longest counts.

    A name is looked up by the word that it begins with: how long a text takes does not depend on how many classes
    there are.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._own = [written(name) for name in names]
        self._spelt: Mapping[str, str] = dict(zip(self._own, names, strict=True))
        lengths: dict[str, set[int]] = {}
        for name in filter(None, self._spelt):
            lengths.setdefault(_first(name), set()).add(len(name))
        self._lengths = {first: sorted(found, reverse=True) for first, found in lengths.items()}

    def named_in(self, text: str, index: int) -> str | None:
        """The first name of another class in a text on class `index`."""
        own = f" {self._own[index]} "
        # "fox" in a text on a "fox terrier" is no other class.
        return next((self._spelt[name] for name in self._names(written(text)) if f" {name} " not in own), None)

    def _names(self, text: str) -> Iterator[str]:
        """All names in a text from left to right, none within another."""
        end = 0
        for token in _TOKEN.finditer(text):
            start = token.start()
            if start < end or (start and _within_word(text, start)):
                continue
            for length in self._lengths_of(token.group()):
                name = text[start : start + length]
                if name in self._spelt and (ending := _ENDING.match(text, start + length)):
                    end = ending.end()
                    yield name
                    break

    def _lengths_of(self, word: str) -> Iterator[int]:
        """Of the names that may begin with a word of a text, the longest first."""
        yield from self._lengths.get(word, ())
        for plural in ("s", "es"):
            if word.endswith(plural) and word != plural:
                yield len(word) - len(plural)


def _first(text: str) -> str:
    """The word that a text begins with, or its first sign."""
    found = _TOKEN.match(text)
    return found.group() if found else ""


def _within_word(text: str, start: int) -> bool:
    """Whether a sign stands right behind a word: a name begins where a word may begin."""
    return re.match(r"\w", text[start - 1]) is not None

"""What must not be shown, and the one way by which words from outside get into messages, files and the cache.

A server, or the library that talks to it, may repeat a key: whole or in part, in capitals, in base64, broken by
escapes (JSON, URL, HTML, Python), by blanks or by marks. So texts are not searched for the key but for any eight
characters of it in a row: as they stand, without blanks and controls, and as letters and digits alone; and all that
again as the text reads once its escapes are resolved.
"""

from __future__ import annotations

import re
import unicodedata
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import unescape

from vlmprompt.describe.lines import unicode, visible
from vlmprompt.errors import InputError

# So many characters of a secret in a row are not shown. Shorter keys are no secrets but words such as "none" or
# "test", which local servers take and descriptions use.
SECRET_LENGTH = 8
MOST_SAID = 200  # characters of a message
MASK = "[key]"
_Reading = Callable[[str], str]  # a character -> what counts of it
_ROUNDS = 4  # of escapes within escapes
_ESCAPE = re.compile(
    r"\\+(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([0-7]{3})|(.))|%([0-9a-fA-F]{2})"
    r"|(&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,8});)",
    re.DOTALL,
)


class Secrets:
    """Texts that must not be shown, such as a key.

    Args:
        values: those shorter than `SECRET_LENGTH` are hidden as whole words, unless they are words of letters.
    """

    def __init__(self, *values: str) -> None:
        long = [form for value in values if len(value) >= SECRET_LENGTH for form in _forms(value)]
        # For each reading the parts of the secrets, read in the same way.
        self._parts = {read: frozenset(p for form in long for p in _parts(read, form)) for read in _READINGS}
        short = [re.escape(value) for value in values if 0 < len(value) < SECRET_LENGTH and not value.isalpha()]
        self._words = re.compile(rf"(?<!\w)(?:{'|'.join(short)})(?!\w)") if short else None

    def hide(self, text: str) -> str:
        """A text without the secrets and their parts, and without what is no Unicode."""
        text = unicode(text)
        if any(self._parts.values()):
            text = _masked(text, self._spans(text))
        return text if self._words is None else self._words.sub(MASK, text)

    def told(self, words: object, most: int = MOST_SAID) -> str:
        """Words from outside for a message: one line, hidden first and cut then; no controls, no users of addresses."""
        line = " ".join(_without_user(word) for word in visible(self.hide(str(words))).split())
        return line if len(line) <= most else f"{line[: most - 3]}..."

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        view: _View | None = _View.of(text)
        for _ in range(_ROUNDS):
            if view is None:
                return
            for reading, parts in self._parts.items():
                yield from view.found(parts, reading)
            view = view.resolved()


@dataclass(frozen=True)
class _View:
    """A text read in another way; its i-th character stands for `starts[i]` to `ends[i]` of the original."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    @classmethod
    def of(cls, text: str) -> _View:
        """The text itself."""
        return cls(text, range(len(text)), range(1, len(text) + 1))

    def found(self, parts: frozenset[str], reading: _Reading) -> Iterator[tuple[int, int]]:
        """Where parts of secrets stand in the original, each character taken as a reading has it."""
        text = "".join(map(reading, self.text))
        ends = range(SECRET_LENGTH, len(text) + 1)
        if parts.isdisjoint(text[end - SECRET_LENGTH : end] for end in ends):
            return  # as nearly always; only now is it worth knowing which character came from where
        where = [i for i, character in enumerate(self.text) for _ in reading(character)]
        for end in ends:
            if text[end - SECRET_LENGTH : end] in parts:
                yield self.starts[where[end - SECRET_LENGTH]], self.ends[where[end - 1]]

    def resolved(self) -> _View | None:
        """With one layer of escapes resolved; None if there are none."""
        pieces: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        at = 0
        for match in _ESCAPE.finditer(self.text):
            plain, read = slice(at, match.start()), _read(match)
            pieces += (self.text[plain], read)
            starts += (*self.starts[plain], *[self.starts[match.start()]] * len(read))
            ends += (*self.ends[plain], *[self.ends[match.end() - 1]] * len(read))
            at = match.end()
        if not at:
            return None
        rest = slice(at, None)
        return _View("".join((*pieces, self.text[rest])), (*starts, *self.starts[rest]), (*ends, *self.ends[rest]))


def check_key(key: str, variable: str) -> str:
    """A key that a request can carry.

    Args:
        variable: of the environment, that holds it.

    Raises:
        InputError: it holds what no header can carry; the message says what, and never the key.
    """
    if key != key.strip():
        what = "blanks or a line break around the key"
    elif not key.isascii():
        what = "a character beyond ASCII"
    elif not key.isprintable():
        what = "a line break or another control character"
    else:
        return key
    raise InputError(
        f"{variable} holds {what}, which no request can carry", hint="set it again to the key alone, as it was given"
    )


def _as_it_stands(character: str) -> str:
    return character


@lru_cache(4096)
def _seen(character: str) -> str:
    return visible(character).strip()


@lru_cache(4096)
def _bare(character: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", character).casefold() if c.isalnum())


_READINGS: tuple[_Reading, ...] = (_as_it_stands, _seen, _bare)


def _forms(secret: str) -> list[str]:
    """As it is, as its own escapes would read, and as it travels or is logged: in base64 and hexadecimal."""
    raw = secret.encode("utf-8", "replace")
    # Where base64 begins decides its characters; the first and the last also depend on what stands around the secret.
    encoded = [b64encode(bytes(before) + raw).decode()[skip:-4] for before, skip in ((0, 0), (1, 2), (2, 3))]
    resolved = _View.of(secret).resolved()
    return [secret, *encoded, raw.hex(), *([resolved.text] if resolved else [])]


def _parts(read: _Reading, secret: str) -> Iterator[str]:
    text = "".join(map(read, secret))
    return (text[i : i + SECRET_LENGTH] for i in range(len(text) - SECRET_LENGTH + 1))


def _read(escape: re.Match[str]) -> str:
    *codes, entity = escape.groups()
    if entity:
        return unescape(entity)
    unicode, byte, octal, letter, percent = codes
    if letter:
        return " " if letter in "nrt" else letter
    return chr(int(octal, 8)) if octal else chr(int(unicode or byte or percent, 16))


def _masked(text: str, spans: Iterable[tuple[int, int]]) -> str:
    pieces: list[str] = []
    shown_to = 0
    for start, end in sorted(spans):
        if start > shown_to or not pieces:
            pieces += (text[shown_to:start], MASK)
        shown_to = max(shown_to, end)
    return "".join((*pieces, text[shown_to:]))


def _without_user(word: str) -> str:
    scheme, mark, rest = word.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}" if mark else word

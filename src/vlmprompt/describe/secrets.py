"""What must not be shown, and the one way by which words from outside get into messages, files and the cache.

A server, or the library that talks to it, may repeat a key: whole or in part, in capitals, in base64, broken by
escapes (JSON, URL, HTML, Python), by blanks or by marks. So texts are not searched for the key but for any eight
characters of it in a row, as they stand, as they read once escapes are resolved, and as letters and digits alone.
"""

from __future__ import annotations

import re
import unicodedata
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
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
        self._parts = frozenset(part for form in long for part in _parts(form))
        self._bare_parts = frozenset(part for form in long for part in _parts("".join(map(_bare, form))))
        short = [re.escape(value) for value in values if 0 < len(value) < SECRET_LENGTH and not value.isalpha()]
        self._words = re.compile(rf"(?<!\w)(?:{'|'.join(short)})(?!\w)") if short else None

    def hide(self, text: str) -> str:
        """A text without the secrets and their parts, and without what is no Unicode."""
        text = unicode(text)
        if self._parts:
            text = _masked(text, self._spans(text))
        return text if self._words is None else self._words.sub(MASK, text)

    def told(self, words: object, most: int = MOST_SAID) -> str:
        """Words from outside for a message: one line, hidden first and cut then; no controls, no users of addresses."""
        line = " ".join(_without_user(word) for word in visible(self.hide(str(words))).split())
        return line if len(line) <= most else f"{line[: most - 3]}..."

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        view: _View | None = _View(text, range(len(text)), range(1, len(text) + 1))
        for _ in range(_ROUNDS):
            if view is None:
                return
            yield from view.found(self._parts)
            yield from view.bare().found(self._bare_parts)
            view = view.resolved()


@dataclass(frozen=True)
class _View:
    """A text read in another way; its i-th character stands for `starts[i]` to `ends[i]` of the original."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def found(self, parts: frozenset[str]) -> Iterator[tuple[int, int]]:
        """Where parts of a secret stand in the original."""
        text = self.text
        for i in range(len(text) - SECRET_LENGTH + 1):
            if text[i : i + SECRET_LENGTH] in parts:
                yield self.starts[i], self.ends[i + SECRET_LENGTH - 1]

    def bare(self) -> _View:
        """Letters and digits alone, in small letters."""
        kept = [(bare, i) for i, c in enumerate(self.text) for bare in _bare(c)]
        where = [i for _, i in kept]
        return _View("".join(c for c, _ in kept), [self.starts[i] for i in where], [self.ends[i] for i in where])

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


def _forms(secret: str) -> list[str]:
    """As it is, and as it travels or is logged: base64 (its characters depend on where it begins), hexadecimal."""
    raw = secret.encode("utf-8", "replace")
    # Of base64 the first and the last characters also depend on what stands around the secret.
    encoded = [b64encode(bytes(before) + raw).decode()[skip:-4] for before, skip in ((0, 0), (1, 2), (2, 3))]
    return [secret, *encoded, raw.hex()]


def _parts(secret: str) -> Iterator[str]:
    return (secret[i : i + SECRET_LENGTH] for i in range(len(secret) - SECRET_LENGTH + 1))


@lru_cache(4096)
def _bare(character: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", character).casefold() if c.isalnum())


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

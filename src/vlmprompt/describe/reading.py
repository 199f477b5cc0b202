"""From what a model wrote to a list of descriptions.

Models answer with JSON, with bullets or numbers, with commas, with a sentence before and a question after. Read
is whatever can be read without guessing; the rest is `AnswerError`, with the words to ask again.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from vlmprompt.describe.lines import Kind, visible
from vlmprompt.describe.listing import BULLET, raw_items
from vlmprompt.describe.provider import AnswerError, Reply
from vlmprompt.describe.thoughts import UnclearError, spoken

_NOTHING = frozenset({"none", "n/a", "null", "undefined", "nan", "true", "false", "yes", "no"})
_MARKS = re.compile(r"(\*\*|__|`)(.+?)\1")
_MARKUP = re.compile(r"<[|｜]|[|｜]>|</?[a-z][\w:-]{0,40}(?:\s[^<>]{0,200})?/?>|^\||```|<!--", re.IGNORECASE)
_REFUSALS = re.compile(
    r"\s*(?:i['’]m (?:very )?sorry|i am sorry|sorry,|i can(?:['’]|no)t\b|i cannot\b|i['’]m (?:not able|unable)\b"
    r"|i am (?:not able|unable)\b|as an? (?:ai|language model)\b|unfortunately, i\b)",
    re.IGNORECASE,
)
_QUOTES = "\"'“”‘’«»„"
CUT_OFF = frozenset({"length", "max_tokens", "model_length", "model_context_window_exceeded"})
FILTERED = frozenset(
    {"content_filter", "safety", "refusal", "prohibited_content", "blocklist", "recitation", "sensitive"}
)
MOST_FOUND = 10_000  # descriptions in one answer; the largest published lists have some 60 a class
LONGEST_EARLIER = 4000  # characters of an answer that are sent back to have it repaired


@dataclass(frozen=True)
class Reading:
    """What was read in an answer.

    Attributes:
        items: the descriptions, cleaned, each once.
        left_out: of what kinds there was more in it, such as thoughts.
    """

    items: list[str]
    left_out: tuple[str, ...] = ()


def read_reply(reply: Reply, kind: Kind, *, least: int = 1) -> list[str]:
    """The descriptions in an answer; see `read`."""
    return read(reply, kind, least=least).items


def read(reply: Reply, kind: Kind, *, least: int = 1) -> Reading:
    """The descriptions in an answer, cleaned, each once.

    Args:
        kind: what was asked for.
        least: how many there must be.

    Raises:
        AnswerError: a refusal, a cut-off or empty answer, damaged JSON, too few or far too many; thoughts or marks of
            which it cannot be told where the answer begins.
    """
    plainly = f"Answer with a plain list of at least {max(least, 3)} {kind}s, one a line, and nothing else."
    _check_end(reply, plainly)
    try:
        said = spoken(reply.text)
        text = said.text.strip()
        if not text:
            raise AnswerError(f"no text, but {reply.beside}" if reply.beside else "empty answer", remark=plainly)
        items = raw_items(text, kind)
    except UnclearError as error:  # not shown to the model again: what it was is unclear
        raise AnswerError(f"unclear answer: {error}", remark=plainly) from error
    except (ValueError, RecursionError) as error:
        remark = f"That cannot be read: it is no whole JSON. {plainly}"
        raise AnswerError("malformed JSON", earlier=text[:LONGEST_EARLIER], remark=remark) from error
    found = distinct(clean(item, kind) for item in dict.fromkeys(items))
    if found and len(found) < 3 and _REFUSALS.match(found[0]):
        raise AnswerError(f"refused: {_short(text)}", remark=plainly)
    if marked := next((item for item in found if _MARKUP.search(item)), None):
        raise AnswerError(f"unclear answer: it has markup within its text, {_short(marked)}", remark=plainly)
    if len(found) > MOST_FOUND:
        raise AnswerError(f"{len(found):,} {kind}s in one answer, more than {MOST_FOUND:,}", remark=plainly)
    if len(found) < least:
        few = "no list in the answer" if not found else f"{len(found)} of at least {least} {kind}s"
        raise AnswerError(few, earlier=text[:LONGEST_EARLIER], remark=plainly)
    return Reading(found, said.left_out)


def _check_end(reply: Reply, plainly: str) -> None:
    """AnswerError for an answer that was refused, or did not come to its end."""
    end = reply.finish_reason.casefold()
    if reply.refusal:
        raise AnswerError(f"refused: {_short(reply.refusal)}", remark=plainly)
    if end in FILTERED:
        raise AnswerError("refused by a content filter", remark=plainly)
    if end in CUT_OFF:
        thoughts = "; it thought too long: --set max_tokens=N gives it more" if _only_thoughts(reply) else ""
        remark = f"Your answer was cut off. Be brief. {plainly}"
        raise AnswerError(f"cut off (finish reason {_short(reply.finish_reason)}){thoughts}", remark=remark)


def _only_thoughts(reply: Reply) -> bool:
    """Whether an answer that was cut off had not yet begun."""
    try:
        return not spoken(reply.text).text.strip() and bool(reply.beside)
    except UnclearError:
        return True


def clean(text: str, kind: Kind) -> str:
    """One description without what does not belong to it: control characters, marks of lists and emphasis, quotes."""
    text = unicodedata.normalize("NFC", text)
    text = _MARKS.sub(r"\2", " ".join(visible(text).split()))
    start = 0
    while (bullet := BULLET.match(text, start)) and bullet.end() > start:
        start = bullet.end()
    text = text[start:].strip(f"{_QUOTES} \t,;*_")
    if kind == "phrase":
        text = text.rstrip(f".,;:!{_QUOTES} ")
    return text if any(c.isalnum() for c in text) and text.casefold() not in _NOTHING else ""


def distinct(texts: Iterable[str]) -> list[str]:
    """Each text once, in its first spelling; empty ones left out."""
    first: dict[str, str] = {}
    for text in texts:
        first.setdefault(text.casefold(), text)
    return [text for text in first.values() if text]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:77]}..."

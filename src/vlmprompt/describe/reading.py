"""From what a model wrote to a list of descriptions.

Models answer with JSON, with bullets or numbers, with commas, with a sentence before and a question after. Read
is whatever can be read without guessing; the rest is `AnswerError`, with the words to ask again.

An answer may be of any length and shape. So every expression here is tried once at a place, or ends where another
begins: the time that reading takes grows with the answer, and not with its square.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from vlmprompt.describe.lines import Kind, visible
from vlmprompt.describe.provider import AnswerError, Reply

_BULLET = re.compile(r"\s*(?:[-*+•‣◦▪●·–—]+(?=\s|\w)|\(?\d{1,3}\s*[.):](?=\s|\D)|\[\w{1,3}\]|\(?[A-Za-z][.)](?=\s))\s*")
_FENCE_LINE = re.compile(r"```[\w-]*[^\S\n]*\n")
_JSON_BEGINS = re.compile(r"^[^\S\n]*([{\[]\s*[\"{\[])", re.MULTILINE)
_JSON_ENDS = re.compile(r"[}\]](?=[^\S\n]*$)", re.MULTILINE)
_NOTHING = frozenset({"none", "n/a", "null"})
_MARKS = re.compile(r"(\*\*|__|`)(.+?)\1")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[\"'“(]?[A-Z0-9])")
_REFUSALS = re.compile(
    r"\s*(?:i['’]m (?:very )?sorry|i am sorry|sorry,|i can(?:['’]|no)t\b|i cannot\b|i['’]m (?:not able|unable)\b"
    r"|i am (?:not able|unable)\b|as an? (?:ai|language model)\b|unfortunately, i\b)",
    re.IGNORECASE,
)
_QUOTES = "\"'“”‘’«»„"
MOST_FOUND = 10_000  # descriptions in one answer; the largest published lists have some 60 a class
LONGEST_EARLIER = 4000  # characters of an answer that are sent back to have it repaired
LONGEST_LEAD = 8  # words of a first line without a bullet that still belongs to the list


def read_reply(reply: Reply, kind: Kind, *, least: int = 1) -> list[str]:
    """The descriptions in an answer, cleaned, each once.

    Args:
        kind: what was asked for.
        least: how many there must be.

    Raises:
        AnswerError: a refusal, a cut-off or empty answer, damaged JSON, too few or far too many.
    """
    plainly = f"Answer with a plain list of at least {max(least, 3)} {kind}s, one a line, and nothing else."
    if reply.refusal:
        raise AnswerError(f"refused: {_short(reply.refusal)}", remark=plainly)
    if reply.finish_reason == "content_filter":
        raise AnswerError("refused by a content filter", remark=plainly)
    if reply.finish_reason == "length":
        raise AnswerError("cut off (finish reason length)", remark=f"Your answer was cut off. Be brief. {plainly}")
    text = _without_thoughts(reply.text).strip()
    if not text:
        raise AnswerError("empty answer", remark=plainly)
    try:
        items = _items(text, kind)
    except (ValueError, RecursionError) as error:
        remark = f"That cannot be read: it is no whole JSON. {plainly}"
        raise AnswerError("malformed JSON", earlier=text[:LONGEST_EARLIER], remark=remark) from error
    found = distinct(clean(item, kind) for item in dict.fromkeys(items))
    if found and len(found) < 3 and _REFUSALS.match(found[0]):
        raise AnswerError(f"refused: {_short(text)}", remark=plainly)
    if len(found) > MOST_FOUND:
        raise AnswerError(f"{len(found):,} {kind}s in one answer, more than {MOST_FOUND:,}", remark=plainly)
    if len(found) < least:
        few = "no list in the answer" if not found else f"{len(found)} of at least {least} {kind}s"
        raise AnswerError(few, earlier=text[:LONGEST_EARLIER], remark=plainly)
    return found


def clean(text: str, kind: Kind) -> str:
    """One description without what does not belong to it: control characters, marks of lists and emphasis, quotes."""
    text = unicodedata.normalize("NFC", text)
    text = _MARKS.sub(r"\2", " ".join(visible(text).split()))
    start = 0
    while (bullet := _BULLET.match(text, start)) and bullet.end() > start:
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


def _items(text: str, kind: Kind) -> list[str]:
    """Raw items. Raises ValueError for JSON that is none."""
    text = _unfenced(text)
    if text[:1] in "{[" and not _is_list_of_lines(text):
        return list(_strings(json.loads(text)))
    embedded = _embedded_json(text)
    if embedded:
        return list(_strings(json.loads(embedded)))
    return _lines(text, kind)


def _without_thoughts(text: str) -> str:
    """Without what stands between <think> and the next </think>."""
    *closed, rest = text.split("</think>")
    return "".join(part.partition("<think>")[0] if "<think>" in part else f"{part}</think>" for part in closed) + rest


def _unfenced(text: str) -> str:
    """What stands between ``` and ```, if that is all."""
    fence = _FENCE_LINE.match(text)
    if fence is None or not text.endswith("```", fence.end()):
        return text
    return text[fence.end() : -3].strip()


def _embedded_json(text: str) -> str:
    """From the first line that begins like JSON to the last that ends like it; empty if there is none."""
    begins = _JSON_BEGINS.search(text)
    if begins is None:
        return ""
    end = max((match.end() for match in _JSON_ENDS.finditer(text, begins.end())), default=0)
    return text[begins.start(1) : end]


def _is_list_of_lines(text: str) -> bool:
    """Such as "[1] a tail": brackets that are no JSON."""
    return re.match(r"\[\w{1,3}\]\s*\S", text) is not None and not text.rstrip().endswith("]")


def _strings(value: Any) -> Iterable[str]:
    """All texts in a JSON value, in order; of an object its lists or, if it has none, its values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        inner_lists = [inner for inner in value.values() if isinstance(inner, list | dict)]
        for inner in inner_lists or value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _lines(text: str, kind: Kind) -> list[str]:
    lines = [line for line in text.splitlines() if line.strip()]
    marked = [bool(_BULLET.match(line)) for line in lines]
    if any(marked):
        # Of what has no bullet only a short beginning is part of the list: the question ended with the first one.
        return [line for i, line in enumerate(lines) if marked[i] or (i == 0 and _leads(line))]
    if len(lines) > 1:
        return [line for i, line in enumerate(lines) if not (i == 0 and line.rstrip().endswith(":"))]
    if kind == "sentence":
        return _SENTENCE_END.split(lines[0])
    return _in_one_line(lines[0])


def _leads(line: str) -> bool:
    return not line.rstrip().endswith((":", ".", "!", "?")) and len(line.split()) <= LONGEST_LEAD


def _in_one_line(line: str) -> list[str]:
    """ "a tail - two ears", "a tail; two ears" or "a tail, two ears": the first mark that separates."""
    line = line.rsplit(": ", 1)[-1]
    for separator in (r"\s[-–—•*]\s", r";", r",\s*(?:and\s)?"):
        parts = re.split(separator, line)
        if len(parts) > 1:
            return parts
    return [line]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:77]}..."

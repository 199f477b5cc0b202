"""From an answer to the items of the list in it: JSON, bullets, numbers, lines, or one line with commas.

An answer may be of any length and shape. So every expression here is tried once at a place, or ends where another
begins: the time that reading takes grows with the answer, and not with its square.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress

from vlmprompt.describe.lines import Kind
from vlmprompt.describe.structured import descriptions, documents
from vlmprompt.describe.thoughts import UnclearError

_LABEL = r"(?:feature|descriptor|description|phrase|sentence|characteristic|item)\s?#?\d{1,3}\s?[.:)]"
BULLET = re.compile(
    r"\s*(?:(?!\*\*\w)[-*+•‣◦▪●·–—]+(?=\s|\w)|\(?\d{1,3}\s*[.):](?=\s|\D)|\[\w{1,3}\]|\(?[A-Za-z][.)](?=\s)"
    rf"|(?i:{_LABEL})(?=\s))\s*"
)
_FENCE_LINE = re.compile(r"```[\w-]*[^\S\n]*\n")
_JSON_BEGINS = re.compile(r"^[^\S\n]*([{\[]\s*[\"'{\[])", re.MULTILINE)
_JSON_ENDS = re.compile(r"[}\]](?=[^\S\n]*$)", re.MULTILINE)
_BRACKETS = re.compile(r"[\s{}\[\],;]+")
_KEY = re.compile(r"\W{0,8}([^\W\d]\w{1,20})[\"'*]{0,3}:\s")
_HEADING = re.compile(r"\s*(?:#{1,6}\s|(\*\*|__)[^*_]{1,200}\1:?\s*$)")
_SPEAKER = re.compile(r"\s*(?:assistant|model|final)\s*(?::|\n)", re.IGNORECASE)  # what is left of a mark of a turn
_NUMBERS = re.compile(r"(?:^|[\s,;])\(?\d{1,2}[.)]\s")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[\"'“(]?[A-Z0-9])")
# Thoughts without any mark around them.
_ALOUD = re.compile(
    r"\s*(?:(?:okay|ok|alright|all right|hmm+|well|right|so|now|first|wait)\b[,.! ]{1,3}){0,3}(?:"
    r"the user(?:['’]s)? (?:\w+ )?(?:wants?|asks?|asked|asking|needs?|says?|said|request|query|question|is)\b"
    r"|(?:i|we) (?:need|have|should|must|want|am asked|are asked) to\b|let me (?:think|see|start|recall|consider)\b"
    r"|let['’]s (?:think|see|start|recall|consider|break)\b|i['’]m (?:being )?asked\b"
    r"|(?:here(?:['’]s| is) )?(?:my |the )?(?:thinking|thought) process\b"
    r"|[#*_(\[\s]{0,6}(?:think(?:s|ing)|reasoning|thoughts?)[*_\s]{0,4}(?::|\.\.\.|$|[)\]]))",
    re.IGNORECASE | re.MULTILINE,
)
_POLITE = r"(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|great question|happy to help)"
_GREETING = re.compile(rf"\s*{_POLITE}[!,.:]\s*", re.IGNORECASE)
_LEAD_IN = re.compile(rf"\s*(?:{_POLITE}\b[!,.]?\s*)?here(?:['’]s| is| are|\b.{{0,20}} you are)\b", re.IGNORECASE)
_GOODBYE = re.compile(
    r"\s*(?:let me know|i hope|hope (?:this|that|it)|feel free|please let|would you like|if you (?:need|want|have)|"
    r"is there anything|these (?:features|phrases|descriptions|characteristics|sentences) (?:can|will|should|help))\b",
    re.IGNORECASE,
)
LONGEST_LEAD = 8  # words of a first line without a bullet that still belongs to the list


def raw_items(text: str, kind: Kind) -> list[str]:
    """The items of a list, each as it was written.

    Raises:
        ValueError: it looks like JSON and is none.
        UnclearError: it may be no list.
    """
    text = _unquoted(_unfenced(text))
    embedded = text if text[:1] in "{[" and not _is_list_of_lines(text) else _embedded_json(text)
    if embedded:
        found = descriptions(documents(embedded))
        is_one = len(found) == 1 and "[" not in embedded  # all of them in one text
        return [item for text in found for item in (_lines(text, kind) if is_one or "\n" in text.strip() else [text])]
    if speaker := _SPEAKER.match(text):
        text = text[speaker.end() :]
    if _ALOUD.match(text):
        raise UnclearError("it thinks aloud")
    return _lines(text, kind)


def _unquoted(text: str) -> str:
    """What a JSON text holds, if it is one, such as a whole answer in quotes."""
    if text[:1] == text[-1:] == '"':
        with suppress(ValueError):
            inner = json.loads(text)
            return inner.strip() if isinstance(inner, str) else text
    return text


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


def _lines(text: str, kind: Kind) -> list[str]:
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return []
    if any(_BRACKETS.fullmatch(line) for line in lines):
        raise ValueError("brackets of what is no JSON")
    lines[0] = lines[0][greeting.end() :] if (greeting := _GREETING.match(lines[0])) else lines[0]
    marked = [bool(BULLET.match(line)) for line in lines]
    if len(lines) == 1 and len(numbered := _NUMBERS.split(lines[0])) > 2:
        return numbered
    if any(marked):
        # Of what has no bullet only a short beginning is part of the list: the question ended with the first one.
        listed = [line for i, line in enumerate(lines) if marked[i] or (i == 0 and _leads(line))]
        return _without_keys(listed, [line for i, line in enumerate(lines) if not marked[i]])
    lines = [line for line in lines if not _HEADING.match(line)] or lines
    if len(lines) > 1:
        return [line for i, line in enumerate(lines) if line.strip() and not _is_around(line, i, len(lines))]
    if kind == "sentence":
        return _SENTENCE_END.split(lines[0])
    return _in_one_line(lines[0])


def _is_around(line: str, i: int, n: int) -> bool:
    """Whether a line without a bullet is said before the list or after it."""
    if i == 0:
        return line.rstrip().endswith(":") or _LEAD_IN.match(line) is not None
    return i == n - 1 and _GOODBYE.match(line) is not None


def _without_keys(listed: list[str], rest: list[str]) -> list[str]:
    """Items without a key that all of them have, as in "- feature: a tail", and without headings of further items."""
    found = [match and match[1].casefold() for match in map(_KEY.match, map(_bare, listed))]
    if len(listed) > 1 and found[0] and set(found) == {found[0]}:
        if any(_KEY.match(line) for line in rest):
            raise UnclearError(f"it has objects of several texts, each with {found[0]!r}")
        return [_bare(line).partition(":")[2] for line in listed]
    items = [line for line in listed if not line.rstrip(" \t\r*_").endswith(":")]
    return items or listed


def _bare(line: str) -> str:
    """A line without its bullet."""
    bullet = BULLET.match(line)
    return line[bullet.end() :] if bullet else line


def _leads(line: str) -> bool:
    if not line.strip() or _LEAD_IN.match(line) or _HEADING.match(line):
        return False
    return not line.rstrip().endswith((":", ".", "!", "?")) and len(line.split()) <= LONGEST_LEAD


def _in_one_line(line: str) -> list[str]:
    """ "a tail - two ears", "a tail; two ears" or "a tail, two ears": the first mark that separates."""
    line = line.rsplit(": ", 1)[-1]
    for separator in (r"\s[-–—•*]\s", r";", r",\s*(?:and\s)?"):
        parts = re.split(separator, line)
        if len(parts) > 1:
            return parts
    return [line]

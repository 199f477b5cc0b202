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
from contextlib import suppress
from dataclasses import dataclass

from vlmprompt.describe.lines import Kind, visible
from vlmprompt.describe.provider import AnswerError, Reply
from vlmprompt.describe.structured import descriptions, documents
from vlmprompt.describe.thoughts import UnclearError, spoken

_LABEL = r"(?:feature|descriptor|description|phrase|sentence|characteristic|item)\s?#?\d{1,3}\s?[.:)]"
_BULLET = re.compile(
    r"\s*(?:[-*+•‣◦▪●·–—]+(?=\s|\w)|\(?\d{1,3}\s*[.):](?=\s|\D)|\[\w{1,3}\]|\(?[A-Za-z][.)](?=\s)"
    rf"|(?i:{_LABEL})(?=\s))\s*"
)
_FENCE_LINE = re.compile(r"```[\w-]*[^\S\n]*\n")
_JSON_BEGINS = re.compile(r"^[^\S\n]*([{\[]\s*[\"'{\[])", re.MULTILINE)
_JSON_ENDS = re.compile(r"[}\]](?=[^\S\n]*$)", re.MULTILINE)
_BRACKETS = re.compile(r"[\s{}\[\],;]+")
_KEY = re.compile(r"\W{0,8}([^\W\d]\w{1,20})[\"'*]{0,3}:\s")
_NOTHING = frozenset({"none", "n/a", "null"})
_MARKS = re.compile(r"(\*\*|__|`)(.+?)\1")
_MARKUP = re.compile(r"<[|｜]|[|｜]>|</?[a-z][\w:-]{0,40}(?:\s[^<>]{0,200})?/?>|^\||```", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[\"'“(]?[A-Z0-9])")
_REFUSALS = re.compile(
    r"\s*(?:i['’]m (?:very )?sorry|i am sorry|sorry,|i can(?:['’]|no)t\b|i cannot\b|i['’]m (?:not able|unable)\b"
    r"|i am (?:not able|unable)\b|as an? (?:ai|language model)\b|unfortunately, i\b)",
    re.IGNORECASE,
)
# Thoughts without any mark around them.
_ALOUD = re.compile(
    r"\s*(?:(?:okay|ok|alright|all right|hmm+|well|right|so|now|first|wait)\b[,.! ]{1,3}){0,3}(?:"
    r"the user(?:['’]s)? (?:\w+ )?(?:wants?|asks?|asked|asking|needs?|says?|said|request|query|question|is)\b"
    r"|(?:i|we) (?:need|have|should|must|want|am asked|are asked) to\b|let me (?:think|see|start|recall|consider)\b"
    r"|let['’]s (?:think|see|start|recall|consider|break)\b|i['’]m (?:being )?asked\b"
    r"|(?:here(?:['’]s| is) )?(?:my |the )?(?:thinking|thought) process\b|[#*\s]{0,6}(?:thinking|reasoning|thoughts?)[*\s]{0,4}"
    r"(?::|\.\.\.|$))",
    re.IGNORECASE | re.MULTILINE,
)
_POLITE = r"(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|great question|happy to help)"
_GREETING = re.compile(rf"\s*{_POLITE}[!,.:]\s*", re.IGNORECASE)
_LEAD_IN = re.compile(rf"\s*(?:{_POLITE}\b[!,.]?\s*)?here(?:['’]s| is| are|\b.{{0,20}} you are)\b", re.IGNORECASE)
_GOODBYE = re.compile(
    r"\s*(?:let me know|i hope|hope (?:this|that|it)|feel free|please let|would you like|if you (?:need|want|have|would)|"
    r"is there anything|these (?:features|phrases|descriptions|characteristics|sentences) (?:can|will|should|help))\b",
    re.IGNORECASE,
)
_QUOTES = "\"'“”‘’«»„"
CUT_OFF = frozenset({"length", "max_tokens", "model_length", "model_context_window_exceeded"})
FILTERED = frozenset({"content_filter", "safety", "refusal", "prohibited_content", "blocklist", "recitation", "sensitive"})
MOST_FOUND = 10_000  # descriptions in one answer; the largest published lists have some 60 a class
LONGEST_EARLIER = 4000  # characters of an answer that are sent back to have it repaired
LONGEST_LEAD = 8  # words of a first line without a bullet that still belongs to the list


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
        items = _items(text, kind)
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
    """Raw items. Raises ValueError for JSON that is none, UnclearError for what may be no list."""
    text = _unquoted(_unfenced(text))
    embedded = text if text[:1] in "{[" and not _is_list_of_lines(text) else _embedded_json(text)
    if embedded:
        return [item for found in descriptions(documents(embedded)) for item in _parts(found, kind)]
    if _ALOUD.match(text):
        raise UnclearError("it thinks aloud")
    return _lines(text, kind)


def _parts(text: str, kind: Kind) -> list[str]:
    """A text within JSON, which may be a list by itself."""
    return _lines(text, kind) if "\n" in text.strip() else [text]


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
    marked = [bool(_BULLET.match(line)) for line in lines]
    if any(marked):
        # Of what has no bullet only a short beginning is part of the list: the question ended with the first one.
        listed = [line for i, line in enumerate(lines) if marked[i] or (i == 0 and _leads(line))]
        return _without_keys(listed, [line for i, line in enumerate(lines) if not marked[i]])
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
    bullet = _BULLET.match(line)
    return line[bullet.end() :] if bullet else line


def _leads(line: str) -> bool:
    if not line.strip() or _LEAD_IN.match(line):
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


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:77]}..."

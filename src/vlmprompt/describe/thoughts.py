"""What a model wrote to be read, without what it thought and without the marks of its chat format.

A server whose template does not fit its model hands on all that was generated: thoughts between tags, of which the
first may have stood in the question; channels, of which one is the answer; marks of turns, and turns that nobody asked
for. They are known by their kind, not by a list of models. Where it cannot be told what the answer is, there is none.

One pass over the text, so the time grows with its length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache

THOUGHTS, MARKS = "thoughts", "marks of a chat format"
_THOUGHT = (
    r"think(?:ing)?|thoughts?|reason(?:ing)?|analysis|reflection|scratchpad|inner[_-]?monologue|chain[_-]of[_-]thought"
)
_ANSWER = r"answer|final[_-]?answer|final|response|solution|output"
_OWN, _OTHERS = ("assistant", "model", "bot"), ("user", "system", "developer", "human", "tool", "ipython")
_ROLE = re.compile(rf"\s*({'|'.join((*_OWN, *_OTHERS))})\b:?", re.IGNORECASE)
_MARK = re.compile(
    # The channels of gpt-oss: a name, what it is for, a message. Of Gemma: a name at the end of the line.
    r"<\|channel\|?>\s*(?P<channel>\w{1,20})(?:[^<>]{0,80}(?:<\|constrain\|>[^<>]{0,40})?<\|message\|>)?"
    r"|<\|start_header_id\|>(?P<header>[^<>]{0,40})<\|end_header_id\|>"
    # Marks of a vocabulary, such as <|im_end|>, <｜end▁of▁sentence｜> or <turn|>.
    r"|<[|｜](?P<special>[^<>|｜\s]{1,60})[|｜]?>|<(?P<ended>\w{1,40})[|｜]>"
    r"|<(?P<plain>/?s|[be]os|pad|(?:start|begin|end)_of_\w{1,20})>|\[(?P<inst>/?INST)\]"
    r"|(?P<tool></?(?:tool|function)_calls?\b[^<>]{0,80}>|\[TOOL_CALLS\])"
    rf"|(?:\\?<|&lt;|◁)(?P<close>/?)\s?(?:(?:[a-z]{{1,20}}[:_-]){{0,2}}(?P<thought>{_THOUGHT})(?:[_-][a-z]{{1,20}})?"
    rf"|(?P<answer>{_ANSWER}))(?:\s[^<>&]{{0,99}})?(?:\\?>|&gt;|▷)"
    r"|<(?P<details>/?details)\b[^<>]{0,200}>"
    r"|\[(?P<bracket>/?)THINK(?:ING)?\]",
    re.IGNORECASE,
)
# What is left of channels where a server drops the marks and keeps the words between them.
_BARE_CHANNEL, _BARE_ANSWER = re.compile(r"\s*analysis(?=[A-Z])"), "assistantfinal"


class UnclearError(ValueError):
    """What the answer is cannot be told; says why."""


@dataclass(frozen=True)
class Spoken:
    """What was meant to be read.

    Attributes:
        left_out: of what kinds there was more.
    """

    text: str
    left_out: tuple[str, ...] = ()


class _Kind(Enum):
    OPEN = auto()
    CLOSE = auto()
    CHANNEL = auto()
    ANSWER = auto()
    ANSWERED = auto()
    START = auto()
    END = auto()
    TOOL = auto()
    UNKNOWN = auto()


def spoken(text: str) -> Spoken:
    """What a model wrote to be read.

    Raises:
        UnclearError: thoughts without an end, nothing but thoughts, a call of a tool, or a mark within the text whose
            meaning is not known.
    """
    if _BARE_CHANNEL.match(text):
        _, found, answer = text.rpartition(_BARE_ANSWER)
        if not found:
            raise UnclearError("it gives its thoughts, and no answer")
        return Spoken(answer, (THOUGHTS, MARKS))
    reader = _Reader(text)
    for mark in _MARK.finditer(text):
        if reader.take(mark):
            break
    else:
        reader.end()
    return Spoken("".join(reader.kept), tuple(dict.fromkeys(reader.left_out)))


@dataclass
class _Reader:
    """Goes over the marks of a text from left to right.

    Attributes:
        kept: what is read so far.
        said: whether there is anything in it.
        thinking: by what kind of mark thoughts have begun.
        unknown: a mark behind what is kept whose meaning is not known.
    """

    text: str
    kept: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    said: bool = False
    thinking: _Kind | None = None
    unknown: str = ""
    at: int = 0

    def take(self, mark: re.Match[str]) -> bool:
        """Whether the answer ends at this mark."""
        if mark.start() < self.at:  # within a role that was skipped
            return False
        self._keep(mark.start())
        self.at = mark.end()
        kind = _kind(mark)
        if kind is _Kind.TOOL and self.thinking is None:
            raise UnclearError("it calls a tool in place of an answer")
        if kind in (_Kind.OPEN, _Kind.CLOSE, _Kind.CHANNEL):
            self._thoughts(mark, kind)
            return False
        self.left_out.append(MARKS)
        if self.thinking is _Kind.OPEN:  # thoughts may speak of any mark but their own
            return False
        if kind is _Kind.ANSWER:
            self._drop()
            self.thinking = None
        elif kind is _Kind.UNKNOWN and self.said:
            self.unknown = mark.group()
        elif kind in (_Kind.START, _Kind.END, _Kind.ANSWERED):
            self.thinking = None
            if self.said:
                return True
            self._begin(mark, kind)
        return False

    def end(self) -> None:
        """Behind the last mark."""
        if self.thinking is not None:
            has_tags = self.thinking is _Kind.OPEN
            raise UnclearError("its thoughts have no end" if has_tags else "it ends before an answer begins")
        self._keep(len(self.text))
        if not self.said and THOUGHTS in self.left_out:
            raise UnclearError("it gives its thoughts, and no answer")

    def _thoughts(self, mark: re.Match[str], kind: _Kind) -> None:
        if kind is _Kind.CHANNEL:
            self.left_out.append(MARKS)
            is_answer = _is(mark["channel"], _ANSWER)
            self._drop()
            self.thinking = None if is_answer else _Kind.CHANNEL
            if is_answer:
                return
        elif kind is _Kind.OPEN:
            self.thinking = self.thinking or _Kind.OPEN
        else:
            if self.thinking is None:  # they began in the question
                self._drop()
            self.thinking = None
        self.left_out.append(THOUGHTS)

    def _keep(self, end: int) -> None:
        if self.thinking is not None or end <= self.at:
            return
        part = self.text[self.at : end]
        if part.strip():
            if self.unknown:
                raise UnclearError(f"it has {self.unknown} within its text")
            self.said = True
        self.kept.append(part)

    def _drop(self) -> None:
        if self.said:
            self.left_out.append(THOUGHTS)
        self.kept.clear()
        self.said, self.unknown = False, ""

    def _begin(self, mark: re.Match[str], kind: _Kind) -> None:
        """A turn begins; what others say in it is no answer."""
        if kind is not _Kind.START:
            return
        role = _ROLE.match(self.text, self.at)
        if role is not None:
            self.at = role.end()
        named = role[1] if role else mark[str(mark.lastgroup)].strip()
        if named.casefold() in (*_OTHERS, "inst"):
            self.thinking = _Kind.CHANNEL


def _kind(mark: re.Match[str]) -> _Kind:
    """What a mark means."""
    group = str(mark.lastgroup)
    name = mark[group].casefold()
    closes = name.startswith("/") or mark["close"] == "/"
    match group:
        case "channel" | "tool":
            return _Kind[group.upper()]
        case "header":
            return _Kind.START
        case "thought" | "details" | "bracket":  # details: how web interfaces fold thoughts away
            return _Kind.CLOSE if closes else _Kind.OPEN
        case "answer":
            return _Kind.ANSWERED if closes else _Kind.ANSWER
        case "inst":  # around a question
            return _Kind.ANSWER if closes else _Kind.START
        case "ended":
            return _Kind.CLOSE if _is(name, f"channel|{_THOUGHT}") else _Kind.END
    return _special(name)


@lru_cache(256)
def _special(name: str) -> _Kind:
    """Of a mark of a vocabulary, by the words in its name."""
    words = re.split(r"[^a-z]+", name)
    ends = name.startswith("/") or any(re.match(r"end|eo[a-z]$|stop|return|done", word) for word in words)
    if any(_is(word, _THOUGHT) for word in words):
        return _Kind.CLOSE if ends else _Kind.OPEN
    if any(_is(word, _ANSWER) for word in words):
        return _Kind.ANSWERED if ends else _Kind.ANSWER
    if any(word in ("tool", "tools", "function", "python") for word in words):
        return _Kind.TOOL
    if ends or name == "call":
        return _Kind.END
    starts = ("start", "begin", "bos", "s", "turn", *_OTHERS, *_OWN)
    return _Kind.START if any(word in starts for word in words) else _Kind.UNKNOWN


def _is(word: str, kinds: str) -> bool:
    return re.fullmatch(kinds, word, re.IGNORECASE) is not None

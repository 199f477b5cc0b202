"""A few answers that are there, with what is read in them: what a person looks at before asking for more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlmprompt.describe.answers import Answer
from vlmprompt.describe.lines import Line, visible
from vlmprompt.describe.provider import Reply
from vlmprompt.describe.reading import read
from vlmprompt.describe.work import Found

MOST = 3  # of each kind
LONGEST = 160  # characters of an answer


def samples(found: Found, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Answers of each kind, as JSON types: refused as they are read now, cached, and in the file.

    Args:
        lines: of the file.
    """
    refused = [_sample(answer, refused=reason) for _, answer, reason in found.unusable[:MOST]]
    cached = [_sample(answer) for _, answer in found.in_cache[:MOST]]
    return refused + cached + [_in_file(job.question.class_index, lines) for job in found.in_file[:MOST]]


def _sample(answer: Answer, refused: str = "") -> dict[str, Any]:
    left_out: tuple[str, ...] = ()
    if not refused:
        left_out = read(Reply(answer.text, answer.finish_reason), answer.kind).left_out
    text = " ".join(visible(answer.text).split())
    return {
        "class": answer.class_name,
        "answered": text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}...",
        "descriptions": [] if refused else answer.items,
        "left_out": list(left_out),
        "refused": refused,
    }


def _in_file(index: int, lines: Sequence[Line]) -> dict[str, Any]:
    own = [line for line in lines if line.class_index == index]
    texts = [line.text for line in own]
    return {"class": own[0].name, "answered": "", "descriptions": texts, "left_out": [], "refused": ""}

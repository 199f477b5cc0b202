"""What is to be described and how, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlmprompt.describe.asking import Limits, Spent
from vlmprompt.describe.lines import Line
from vlmprompt.describe.work import ClassList


@dataclass(frozen=True)
class Order:
    """What is to be described, and how.

    Attributes:
        provider: registered name.
        options: of the provider, as far as they are not its defaults.
        template: shipped name or file; None: the default, or what the provider has in place of one.
        samples: answers to each question.
        min_phrases: descriptions of each class, over all its answers.
        out: folder for the file.
        force: ask again for what is there.
    """

    classes: ClassList
    provider: str
    options: Mapping[str, Any] = field(default_factory=dict)
    template: str | None = None
    samples: int = 1
    min_phrases: int = 1
    limits: Limits = field(default_factory=Limits)
    out: Path = Path("prompts_cache")
    force: bool = False


@dataclass(frozen=True)
class Failure:
    """A class, or some of its answers, that could not be had."""

    class_index: int
    name: str
    reason: str

    def public(self) -> dict[str, object]:
        """As JSON documents show it."""
        return {"class_index": self.class_index, "class": self.name, "reason": self.reason}


@dataclass(frozen=True)
class Summary:
    """What became of an order.

    Attributes:
        path: the file.
        lines: in it, of the classes ordered.
        described: classes that have descriptions now.
        cached: those of them that needed no request.
        failed: what is missing, by class.
        cut: descriptions that were longer than a text tower reads.
        notes: in what way was asked otherwise than told.
        stopped: why asking ended before its end.
        next_step: what to do about that.
    """

    path: Path
    lines: tuple[Line, ...]
    described: int
    cached: int
    failed: tuple[Failure, ...]
    spent: Spent
    cut: int = 0
    notes: tuple[str, ...] = ()
    stopped: str | None = None
    next_step: str | None = None

"""The cache of answers looked at as a whole: what is in it, what is wrong with it, what may go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from vlmprompt.atomic import write_atomic
from vlmprompt.describe.answers import Answer
from vlmprompt.describe.cache import DescriptionCache
from vlmprompt.describe.lines import Line, dump_lines
from vlmprompt.describe.provider import AnswerError
from vlmprompt.describe.templates import Template
from vlmprompt.describe.work import as_read_now
from vlmprompt.describe.writing import Origin, is_there, once_a_class


@dataclass(frozen=True)
class Which:
    """Which answers are meant; None means any.

    Attributes:
        older_than_days: only those that were stored so long ago.
    """

    dataset: str | None = None
    provider: str | None = None
    model: str | None = None
    template: str | None = None
    older_than_days: float | None = None

    def __contains__(self, answer: Answer) -> bool:
        wanted = (self.dataset, self.provider, self.model, self.template)
        if any(want is not None and want != has for want, has in zip(wanted, group(answer), strict=True)):
            return False
        return self.older_than_days is None or _age(answer) >= timedelta(days=self.older_than_days)


def group(answer: Answer) -> tuple[str, str, str, str]:
    """Data set, provider, model and template of an answer: what makes a file."""
    model = str(answer.asked.get("parameters", {}).get("model", ""))
    return answer.dataset, str(answer.asked.get("provider", "")), model, answer.template


def answers(cache: DescriptionCache, which: Which | None = None) -> Iterator[Answer]:
    """The sound answers of a cache."""
    which = which or Which()
    for _, text in cache.items():
        answer = Answer.parse(text)
        if answer is not None and answer in which:
            yield answer


def groups(cache: DescriptionCache) -> list[dict[str, object]]:
    """A row for each data set, provider, model and template, as JSON types."""
    rows: dict[tuple[str, str, str, str], dict[str, object]] = {}
    for answer in answers(cache):
        names = dict(zip(("dataset", "provider", "model", "template"), group(answer), strict=True))
        row = rows.setdefault(group(answer), {**names, "answers": 0, "texts": 0, "tokens": 0, "newest": ""})
        added = {"answers": 1, "texts": len(answer.items), "tokens": answer.prompt_tokens + answer.completion_tokens}
        row |= {key: int(str(row[key])) + value for key, value in added.items()}
        row["newest"] = max(str(row["newest"]), answer.created)
    return [rows[key] for key in sorted(rows)]


def export(cache: DescriptionCache, out: Path, which: Which, *, force: bool) -> tuple[list[Path], list[Path]]:
    """Write answers as description files, one a group; gives those written and those left as they were.

    Answers are read anew: those that are no descriptions, such as thoughts, are left out.

    Args:
        force: replace files that are there; without, they are left alone, for they may have been reviewed.
    """
    files: dict[Path, dict[tuple[int, int], Answer]] = {}
    for answer in answers(cache, which):
        kept = files.setdefault(_origin(answer).path(out, answer.dataset), {})
        place = answer.class_index, _sample(answer)
        if place not in kept or kept[place].created < answer.created:
            with suppress(AnswerError):
                kept[place] = as_read_now(answer)
    written, left = [], []
    for path, found in sorted((path, found) for path, found in files.items() if found):
        if not force and is_there(path):
            left.append(path)
            continue
        lines = [line for place in sorted(found) for line in _lines(found[place])]
        write_atomic(path, dump_lines(once_a_class(lines)))
        written.append(path)
    return written, left


def problems(cache: DescriptionCache) -> list[str]:
    """What is wrong with a cache, a line each; nothing for a sound one."""
    if damage := cache.damage():  # nothing in it can be counted
        return [f"the database is damaged: {text}" for text in damage]
    found = []
    foreign = cache.foreign()
    if foreign:
        found.append(f"{foreign} rows are no text (a pickle, a file): they are never read")
    wrong = len(_wrong_keys(cache))
    if wrong:
        found.append(f"{wrong} answers are damaged, or stand under a key that is not theirs: they are asked for again")
    return found


def prune(cache: DescriptionCache, which: Which | None) -> dict[str, int]:
    """Delete what `problems` finds and, if given, the answers that are meant; gives the numbers."""
    counts = {"foreign": cache.discard_foreign(), "damaged": 0, "answers": 0}
    wrong = _wrong_keys(cache)
    meant = [] if which is None else [answer.key for answer in answers(cache, which)]
    cache.discard([*wrong, *meant])
    return counts | {"damaged": len(wrong), "answers": len(meant)}


def _wrong_keys(cache: DescriptionCache) -> list[str]:
    return [key for key, text in cache.items() if (answer := Answer.parse(text)) is None or answer.key != key]


def _origin(answer: Answer) -> Origin:
    _, provider, model, template = group(answer)
    source = str(answer.asked.get("parameters", {}).get("host", ""))
    return Origin(provider, model, source, Template(template, "", answer.kind))


def _lines(answer: Answer) -> Iterator[Line]:
    origin = _origin(answer)
    for text in answer.items:
        yield Line(
            dataset=answer.dataset,
            class_index=answer.class_index,
            name=answer.class_name,
            text=text,
            kind=answer.kind,
            provider=origin.provider,
            model=origin.model,
            template_sha256=str(answer.asked.get("template_sha256", "")),
            sample=_sample(answer),
            source=origin.source,
        )


def _sample(answer: Answer) -> int:
    return int(answer.asked.get("sample", 0))


def _age(answer: Answer) -> timedelta:
    try:
        return datetime.now(UTC) - datetime.fromisoformat(answer.created)
    except (TypeError, ValueError, OverflowError):
        return timedelta.max

"""The reviewed file: what stays of it, what is added, and what a reviewer should look at."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlmprompt.atomic import unwritable
from vlmprompt.describe.answers import Answer
from vlmprompt.describe.library import FOLDER, SUFFIX, DescriptionFile, bounded, folder_name
from vlmprompt.describe.lines import Line, written
from vlmprompt.describe.naming import OtherNames
from vlmprompt.describe.templates import Template
from vlmprompt.describe.work import ClassList, Job
from vlmprompt.errors import InputError

FLAG = "flag"
# (description, class name, whether it is a sentence) -> as much of it as a text tower reads.
Shorten = Callable[[str, str, bool], str]


@dataclass(frozen=True)
class Origin:
    """Who gave the descriptions, and what was asked.

    Attributes:
        provider: its registered name.
        source: where a person would look them up.
    """

    provider: str
    model: str
    source: str
    template: Template

    def path(self, out: Path, dataset: str) -> Path:
        """`<out>/<dataset>/<provider>--<model>--<template>.jsonl`."""
        names = (self.provider, self.model, self.template.name)
        parts = (re.sub(r"-{2,}", "-", folder_name(name)).strip("-.") or "x" for name in names)
        return out / folder_name(dataset) / f"{bounded('--'.join(parts))}{SUFFIX}"


def is_there(path: Path) -> bool:
    """Whether there is a file to be read, or to be left alone.

    Raises:
        InputError: the place cannot be looked at, such as one with too long a name.
    """
    try:
        return path.exists()
    except OSError as error:
        raise unwritable(path, error) from error


def lines_of(path: Path, classes: ClassList) -> tuple[Line, ...]:
    """The lines of the file as it is; none if there is no file.

    Raises:
        InputError: it is damaged, or was written for other classes.
    """
    if not is_there(path):
        return ()
    try:
        lines = DescriptionFile.read(path).lines
    except InputError as error:
        hint = "repair it, or remove it: what was answered is cached, and written again"
        raise InputError(error.message, hint=hint) from error
    for line in lines:
        known = classes.names[line.class_index] if line.class_index < len(classes.names) else None
        if known is None or written(known) != written(line.name):
            here = "which is not there now" if known is None else f"now it is {known!r}"
            raise InputError(
                f"{path} was written for other classes: class {line.class_index} is {line.name!r} in it, {here}",
                hint=f"give another folder than {FOLDER} with --out, or remove the file",
            )
    return lines


def merged(
    before: Sequence[Line], answers: Sequence[tuple[Job, Answer]], classes: ClassList, origin: Origin
) -> list[Line]:
    """The lines of the new file.

    What stands in the file stays, with what a reviewer changed in it: lines of other answers, and by hand. New
    answers replace the lines of the same class and sample, and those of an earlier wording of the template.
    """
    new: dict[int, set[int]] = {}
    for job, _ in answers:
        new.setdefault(job.question.class_index, set()).add(job.question.sample)

    def stays(line: Line) -> bool:
        if line.class_index not in new or line.provider != origin.provider:
            return True
        return line.template_sha256 == origin.template.sha256 and line.sample not in new[line.class_index]

    lines = [line for line in before if stays(line)]
    lines += (_line(job, answer, text, classes, origin) for job, answer in answers for text in answer.items)
    return once_a_class(lines)


def reviewed(lines: Iterable[Line], classes: ClassList, shorten: Shorten | None) -> tuple[list[Line], int]:
    """Lines cut to what a text tower reads and marked where they name another class; and how many were cut."""
    others = OtherNames(classes.names)
    done, cut = [], 0
    for line in lines:
        text = line.text if shorten is None else shorten(line.text, line.name, line.kind == "sentence") or line.text
        cut += text != line.text
        named = others.named_in(text, line.class_index)
        content = {k: v for k, v in line.model_dump(by_alias=True).items() if k != FLAG} | {"text": text}
        done.append(Line.model_validate(content | ({FLAG: f"names the class {named!r}"} if named else {})))
    return done, cut


def flags(lines: Iterable[Line]) -> list[dict[str, object]]:
    """What a reviewer should look at, as JSON types."""
    return [
        {"class_index": line.class_index, "class": line.name, "text": line.text, FLAG: line.model_extra[FLAG]}
        for line in lines
        if line.model_extra and FLAG in line.model_extra
    ]


def _line(job: Job, answer: Answer, text: str, classes: ClassList, origin: Origin) -> Line:
    return Line(
        dataset=classes.dataset,
        class_index=job.question.class_index,
        name=job.question.class_name,
        text=text,
        kind=answer.kind,
        provider=origin.provider,
        model=origin.model,
        template_sha256=origin.template.sha256,
        sample=job.question.sample,
        source=origin.source,
    )


def once_a_class(lines: Sequence[Line]) -> list[Line]:
    """Each text once for a class, where it stands first."""
    first: dict[tuple[int, str], Line] = {}
    for line in lines:
        first.setdefault((line.class_index, line.text.casefold()), line)
    return list(first.values())

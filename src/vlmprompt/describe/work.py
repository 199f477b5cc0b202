"""What there is to ask, and what is known already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from vlmprompt.data.names import spellings
from vlmprompt.describe.answers import Answer, asked
from vlmprompt.describe.cache import DescriptionCache
from vlmprompt.describe.lines import Line, unicode, written
from vlmprompt.describe.provider import AnswerError, Provider, Question, Reply
from vlmprompt.describe.reading import read_reply
from vlmprompt.describe.templates import Template, question_name
from vlmprompt.digests import digest_of
from vlmprompt.errors import InputError

CHARACTERS_A_TOKEN = 4
TOKENS_AROUND = 8  # of a message, in most chat formats
TOKENS_OF_ANSWER = 80
LONGEST_NAME = 1000  # characters of a class name; a text tower reads some 300


@dataclass(frozen=True)
class ClassList:
    """Classes to be described.

    Attributes:
        dataset: name of their data set; names the folder of the file.
        names: in label order; two may be the same.
        limit: of so many the first are described.

    Raises:
        InputError: a name that cannot be asked about: it has nothing to read, no end, or what is no Unicode.
    """

    dataset: str
    names: tuple[str, ...]
    limit: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "dataset", unicode(self.dataset))
        for index, name in enumerate(self.names):
            if fault := _fault(name):
                shown = f"{name[:40]!r}{'...' if len(name) > 40 else ''}"
                raise InputError(
                    f"class {index} of {self.dataset!r}, {shown}, {fault}", hint="give it a name that a person can read"
                )

    @property
    def described(self) -> range:
        """The labels to be described."""
        return range(len(self.names) if self.limit is None else min(self.limit, len(self.names)))


def _fault(name: str) -> str | None:
    if len(name) > LONGEST_NAME:
        return f"has a name of {len(name):,} characters, and at most {LONGEST_NAME:,} can be asked about"
    if any("\ud800" <= character <= "\udfff" for character in name):
        return "has a name that is no Unicode"
    return None if question_name(name) else "has a name with nothing in it to read"


@dataclass(frozen=True)
class Job:
    """One answer that is wanted: a class, and which of several answers."""

    question: Question
    asked: Mapping[str, Any]
    key: str


@dataclass
class Found:
    """What is known of the jobs before anything is asked.

    Attributes:
        in_file: jobs whose lines stand in the file already, reviewed or not.
        in_cache: jobs whose answer was paid for, with it.
        open: jobs to be asked.
        unusable: those of them with an answer that was paid for and is none as it is read now, with the reason.
    """

    in_file: list[Job] = field(default_factory=list)
    in_cache: list[tuple[Job, Answer]] = field(default_factory=list)
    open: list[Job] = field(default_factory=list)
    unusable: list[tuple[Job, Answer, str]] = field(default_factory=list)


def jobs(classes: ClassList, provider_name: str, provider: Provider, template: Template, samples: int) -> list[Job]:
    """All answers that are wanted, class by class."""
    identity, sha256 = provider.identity(), template.sha256
    found, twins = [], Counter[str]()
    for index in classes.described:
        name = classes.names[index]
        twin = twins[written(name)]
        twins[written(name)] += 1
        for sample in range(samples):
            text = name if provider.template else template.ask(" or ".join(spellings(name)))
            question = Question(index, name, text, template.kind, sample)
            about = asked(provider_name, identity, question.text, sha256, sample=sample, twin=twin)
            found.append(Job(question, about, digest_of(about)))
    return found


def look_up(wanted: Sequence[Job], lines: Sequence[Line], cache: DescriptionCache | None, template: Template) -> Found:
    """Sort jobs by what is known of them.

    Args:
        lines: of the file that would be written.
    """
    there = {(line.class_index, line.sample) for line in lines if line.template_sha256 == template.sha256}
    found = Found()
    for job in wanted:
        if (job.question.class_index, job.question.sample) in there:
            found.in_file.append(job)
        elif (answer := _kept(cache, job.key)) is None:
            found.open.append(job)
        else:
            try:
                found.in_cache.append((job, as_read_now(answer)))
            except AnswerError as error:
                found.unusable.append((job, answer, error.reason))
                found.open.append(job)
    return found


def stored(cache: DescriptionCache | None, key: str) -> Answer | None:
    """The answer of a key, if there is one; what is there but is none is forgotten, to be asked for again."""
    if cache is None or cache.get(key) is None:
        return None
    with suppress(AnswerError):
        if (answer := _kept(cache, key)) is not None:
            return as_read_now(answer)
    cache.discard([key])
    return None


def _kept(cache: DescriptionCache | None, key: str) -> Answer | None:
    text = None if cache is None else cache.get(key)
    answer = None if text is None else Answer.parse(text)
    return answer if answer is not None and answer.key == key else None


def as_read_now(answer: Answer) -> Answer:
    """An answer with the descriptions that are read in it today; what was taken for one before may be a thought.

    Raises:
        AnswerError: there are none.
    """
    items = read_reply(Reply(answer.text, answer.finish_reason), answer.kind)
    return answer if items == answer.items else answer.model_copy(update={"items": items})


def estimated_tokens(open_jobs: Sequence[Job], known: Sequence[Answer]) -> dict[str, int]:
    """Tokens of questions and answers to come: counted by characters, or as answers so far have cost."""
    prompt = sum(TOKENS_AROUND + -(-len(job.question.text) // CHARACTERS_A_TOKEN) for job in open_jobs)
    costs = [answer.completion_tokens for answer in known if answer.completion_tokens]
    each = sum(costs) / len(costs) if costs else TOKENS_OF_ANSWER
    return {"prompt": prompt, "completion": round(each * len(open_jobs))}

"""Classes described from beginning to end: what is known, what is asked, what is written."""

from __future__ import annotations

import asyncio
import random
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from pydantic import ValidationError

from vlmprompt import signals
from vlmprompt.atomic import write_atomic
from vlmprompt.describe.answers import Answer
from vlmprompt.describe.asking import Asker, Spent
from vlmprompt.describe.cache import DescriptionCache, cache_folder
from vlmprompt.describe.lines import Line, dump_lines
from vlmprompt.describe.order import Failure, Order, Summary
from vlmprompt.describe.pool import Pool, now, versions
from vlmprompt.describe.provider import Provider, Reply
from vlmprompt.describe.reading import read_reply
from vlmprompt.describe.samples import samples
from vlmprompt.describe.templates import DEFAULT, load_template
from vlmprompt.describe.work import Found, Job, estimated_tokens, jobs, look_up
from vlmprompt.describe.writing import Origin, Shorten, lines_of, merged, reviewed
from vlmprompt.errors import InputError, Interrupted, UsageError, did_you_mean
from vlmprompt.plugins import host
from vlmprompt.progress import Progress, SilentProgress


class Service:
    """Carries out one order. Close it.

    Args:
        cache: where answers are kept; default the user's.
        shorten: cuts descriptions to what a text tower reads.

    Raises:
        UsageError, InputError: the order cannot be carried out; nothing was asked.
    """

    def __init__(self, order: Order, *, cache: DescriptionCache | None = None, shorten: Shorten | None = None) -> None:
        self._order = order
        self._shorten = shorten
        self._provider = make_provider(order.provider, order.options)
        template = self._provider.template or load_template(order.template or DEFAULT)
        if self._provider.template is not None and order.template is not None:
            raise UsageError(f"provider {order.provider} asks no questions", hint="leave --template out")
        self.origin = Origin(order.provider, self._provider.model, self._provider.source, template)
        self.path = self.origin.path(order.out, order.classes.dataset)
        self._before = lines_of(self.path, order.classes)
        self._jobs = jobs(order.classes, order.provider, self._provider, template, order.samples)
        self._own_cache = cache is None and self._provider.online
        self._cache = (cache or DescriptionCache(cache_folder())) if self._provider.online else None

    def close(self) -> None:
        """Close the cache, if it was opened here."""
        if self._own_cache and self._cache is not None:
            self._cache.close()

    def look_up(self) -> Found:
        """What is known before anything is asked."""
        if self._order.force:
            return Found(open=list(self._jobs))
        return look_up(self._jobs, self._before, self._cache, self.origin.template)

    def plan(self) -> dict[str, Any]:
        """What carrying out the order would take, as JSON types; asks nothing and writes nothing."""
        found = self.look_up()
        tokens = estimated_tokens(found.open, [answer for _, answer in found.in_cache])
        return {
            "template": self.origin.template.name,
            "file": self.path,
            "classes": len(self._order.classes.described),
            "answers": len(self._jobs),
            "in_file": len(found.in_file),
            "in_cache": len(found.in_cache),
            "to_fetch": len(found.open),
            "unusable": len(found.unusable),
            "most_requests": len(found.open) * (2 + self._order.limits.max_retries) if self._provider.online else 0,
            "estimated_tokens": tokens if self._provider.online else {"prompt": 0, "completion": 0},
            "question": found.open[0].question.text if found.open else "",
            "samples": samples(found, self._before),
        }

    def carry_out(self, progress: Progress | None = None) -> Summary:
        """Ask for what is missing and write the file.

        Raises:
            InputError: no request can succeed, and nothing is known; the file is as it was.
            Interrupted: by Ctrl-C; what was answered is stored and written.
        """
        progress = progress or SilentProgress()
        found = self.look_up()
        if self._order.force and self._cache is not None:
            self._cache.discard([job.key for job in found.open])
        asker = Asker(self._provider, self._read, self._order.limits, random.Random())
        pool = Pool(self._provider, asker, self._cache, self._order.limits, progress, self._answer)
        try:
            with signals.as_python_does():
                asyncio.run(self._ask(pool, found.open, progress))
        except KeyboardInterrupt:
            self._write(found, pool)
            raise Interrupted(
                f"interrupted; {len(pool.answers)} answers are stored", hint="the same command goes on from here"
            ) from None
        self._warn(progress, pool)
        if pool.stopped and not (pool.answers or found.in_cache or found.in_file):
            raise InputError(pool.stopped.reason, hint=pool.stopped.hint)
        return self._summary(found, pool, asker.spent)

    async def _ask(self, pool: Pool, open_jobs: Sequence[Job], progress: Progress) -> None:
        name = self._order.classes.dataset
        watch = progress if self._provider.online and open_jobs else SilentProgress()
        with watch.task(f"describing {name}", len(open_jobs), unit="answer") as task:
            await pool.run(open_jobs, task)

    def _read(self, reply: Reply) -> list[str]:
        least = -(-self._order.min_phrases // self._order.samples)
        return read_reply(reply, self.origin.template.kind, least=least)

    def _answer(self, job: Job, reply: Reply, items: list[str]) -> Answer:
        return Answer(
            asked=dict(job.asked),
            dataset=self._order.classes.dataset,
            class_index=job.question.class_index,
            class_name=job.question.class_name,
            template=self.origin.template.name,
            kind=self.origin.template.kind,
            items=items,
            text=reply.text,
            finish_reason=reply.finish_reason,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            fingerprint=reply.fingerprint,
            notes=list(self._provider.notes),
            created=now(),
            versions=versions(),
        )

    def _write(self, found: Found, pool: Pool) -> tuple[list[Line], int]:
        asked = [(job, pool.answers[job.key]) for job in found.open if job.key in pool.answers]
        lines = merged(self._before, [*found.in_cache, *asked], self._order.classes, self.origin)
        lines, cut = reviewed(lines, self._order.classes, self._shorten)
        if lines:
            write_atomic(self.path, dump_lines(lines))
        return lines, cut

    def _summary(self, found: Found, pool: Pool, spent: Spent) -> Summary:
        lines, cut = self._write(found, pool)
        wanted = self._order.classes.described
        own = tuple(line for line in lines if line.class_index in wanted)
        described = {line.class_index for line in own}
        asked = {job.question.class_index for job in found.open if job.key in pool.asked and self._provider.online}
        return Summary(
            path=self.path,
            lines=own,
            described=len(described),
            cached=len(described - asked),
            failed=self._failures(pool, Counter(line.class_index for line in own)),
            spent=spent if self._provider.online else Spent(),
            cut=cut,
            notes=tuple(self._provider.notes),
            stopped=pool.stopped.reason if pool.stopped else None,
            next_step=pool.stopped.hint if pool.stopped else None,
        )

    def _failures(self, pool: Pool, lines: Mapping[int, int]) -> tuple[Failure, ...]:
        """By class; where there are several answers, which are missing; and classes with too few descriptions.

        Args:
            lines: class index -> descriptions in the file.
        """
        reasons: dict[int, list[str]] = {}
        for job in self._jobs:
            if job.key in pool.failed:
                which = f"sample {job.question.sample}: " if self._order.samples > 1 else ""
                reasons.setdefault(job.question.class_index, []).append(which + pool.failed[job.key])
        names, least = self._order.classes.names, self._order.min_phrases
        for index in self._order.classes.described:
            if index not in reasons and lines.get(index, 0) < least:
                few = f"{lines.get(index, 0)} of at least {least} descriptions (--samples asks for more, --force anew)"
                reasons[index] = [few]
        return tuple(Failure(index, names[index], "; ".join(said)) for index, said in sorted(reasons.items()))

    def _warn(self, progress: Progress, pool: Pool) -> None:
        if pool.stopped and not pool.failed:  # all is answered, and not all is stored
            progress.warn(f"{pool.stopped.reason}; what was answered is in the file alone")
        if self._cache is not None and self._cache.refused:
            progress.warn(
                f"{len(self._cache.refused)} rows of the cache {self._cache.folder} are no text and were refused "
                "('vlmprompt cache prune' removes them)"
            )


def make_provider(name: str, options: Mapping[str, Any]) -> Provider:
    """A provider with its options.

    Raises:
        UsageError: no such provider or option, or a value that is not allowed.
        InputError: the provider cannot work here.
    """
    entry = host().llm_providers.get(name)
    model, target = entry.load_config(), entry.load()
    fields = {} if model is None else model.model_fields
    for key in options:
        if key not in fields:
            known = did_you_mean(key, fields) if fields else "it has none"
            raise UsageError(f"provider {name!r} has no option {key!r}", hint=known)
    try:
        config = None if model is None else model.model_validate(dict(options))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(map(str, problem["loc"]))
        value = reprlib.repr(problem["input"])
        raise UsageError(f"option {key} = {value} of provider {name!r}: {problem['msg']}") from None
    provider: Provider = target(config)
    return provider


def describe_classes(
    order: Order,
    *,
    cache: DescriptionCache | None = None,
    shorten: Shorten | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Carry out an order; see `Service`."""
    with closing(Service(order, cache=cache, shorten=shorten)) as service:
        return service.carry_out(progress)

"""Many questions at once: a bounded number of workers, each answer stored before the next is asked for.

Processes that share a cache share the work: whoever asks holds a claim, which its process renews, and which
expires if the process dies. What another process is asking for is left for later, and then mostly found stored.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from math import gcd

from vlmprompt.describe.answers import Answer
from vlmprompt.describe.asking import Asker, Limits, StoppedError, UnansweredError
from vlmprompt.describe.cache import DescriptionCache
from vlmprompt.describe.faults import CHECK_KEY_AND_MODEL
from vlmprompt.describe.opening import Opening
from vlmprompt.describe.provider import Provider, Reply
from vlmprompt.describe.work import Job, stored
from vlmprompt.errors import InputError
from vlmprompt.progress import Progress, Task

CLAIM_S = 60.0
POLL_S = 0.05
# So many answers in a row that never came end the asking.
GIVE_UP_AFTER = 16


class Pool:
    """Asks for the answers to jobs.

    Attributes:
        answers: job key -> answer, asked for or found stored meanwhile.
        asked: keys of jobs that cost a request.
        failed: jobs without one, with the reason.
        stopped: why asking ended early, if it did.

    Args:
        make: what is stored of an answer to a job.
    """

    def __init__(
        self,
        provider: Provider,
        asker: Asker,
        cache: DescriptionCache | None,
        limits: Limits,
        progress: Progress,
        make: Callable[[Job, Reply, list[str]], Answer],
    ) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: set[str] = set()
        self.failed: dict[str, str] = {}
        self.stopped: StoppedError | None = None
        self._provider = provider
        self._asker = asker
        self._cache = cache
        self._limits = limits
        self._progress = progress
        self._make = make
        self._ready: deque[Job] = deque()
        self._elsewhere: deque[Job] = deque()  # claimed by another process
        self._claims: set[str] = set()
        self._opening = Opening(0)
        self._unheard = 0
        self._said = 0

    async def run(self, jobs: Sequence[Job], task: Task) -> None:
        """Ask for all of them; whatever happens, what was answered is stored and in `answers`."""
        self._ready.extend(spread(jobs))
        self._opening = Opening(len(jobs))
        workers = [asyncio.create_task(self._work(task)) for _ in range(min(self._limits.concurrency, len(jobs)))]
        heart = asyncio.create_task(self._renew_claims())
        try:
            await asyncio.gather(*workers)
        finally:
            for task_ in (*workers, heart):
                task_.cancel()
            await asyncio.gather(*workers, heart, return_exceptions=True)
            await self._provider.close()
        if self.stopped:
            for job in (*self._ready, *self._elsewhere):
                self.failed[job.key] = f"not asked: {self.stopped.reason}"

    async def _work(self, task: Task) -> None:
        while not self.stopped and (self._ready or self._elsewhere):
            if self._ready:
                job = self._ready.popleft()
            else:
                job = self._elsewhere.popleft()
                await asyncio.sleep(POLL_S)
            if await self._settle(job):
                self._report(task)

    async def _settle(self, job: Job) -> bool:
        """Whether the job is done with, one way or the other."""
        try:
            if self._cache is not None and not self._cache.claim(job.key, seconds=CLAIM_S):
                answer = stored(self._cache, job.key)
                if answer is None:
                    self._elsewhere.append(job)
                    return False
                self.answers[job.key] = answer
                return True
            self._claims.add(job.key)
            try:
                await self._ask(job)
            finally:
                self._claims.discard(job.key)
                if self._cache is not None:
                    self._cache.release(job.key)
        except InputError as error:  # the cache has become unusable; what is answered goes into the file
            self._stop(StoppedError(error.message, error.hint))
            if job.key not in self.answers:
                self.failed.setdefault(job.key, f"not asked: {error.message}")
        return True

    async def _ask(self, job: Job) -> None:
        if not await self._opening.enter():
            self.failed[job.key] = f"not asked: {self._refused_alike()}"
            return
        refusal = None
        try:
            refusal = await self._ask_now(job)
        finally:
            await self._opening.leave(job.question.class_name, refusal)
        if self._opening.is_closed:
            self._stop(StoppedError(self._refused_alike(), CHECK_KEY_AND_MODEL))

    def _refused_alike(self) -> str:
        return f"the first {self._opening.refused} questions were all refused alike: {self._opening.reason}"

    async def _ask_now(self, job: Job) -> str | None:
        """The words in which a question was refused, if it was."""
        self.asked.add(job.key)
        try:
            reply, items = await self._asker.answer(job.question)
        except UnansweredError as error:
            self.failed[job.key] = error.reason
            self._unheard = self._unheard + 1 if error.unheard else 0
            if self._unheard >= max(GIVE_UP_AFTER, 2 * self._limits.concurrency):
                self._stop(StoppedError(f"{self._unheard} answers in a row never came, the last: {error.reason}"))
            return error.reason if error.refused else None
        except StoppedError as error:
            self.failed[job.key] = error.reason
            self._stop(error)
        else:
            self._unheard = 0
            answer = self.answers[job.key] = self._make(job, reply, items)
            if self._cache is not None:
                self._cache.put(job.key, answer.dump())
        return None

    def _stop(self, error: StoppedError) -> None:
        self.stopped = self.stopped or error

    def _report(self, task: Task) -> None:
        spent = self._asker.spent
        task.advance(requests=str(spent.requests), tokens=str(spent.tokens))
        for note in self._provider.notes[self._said :]:
            self._progress.warn(note)
        self._said = len(self._provider.notes)

    async def _renew_claims(self) -> None:
        while self._cache is not None:
            await asyncio.sleep(CLAIM_S / 3)
            for key in tuple(self._claims):
                with suppress(InputError):  # whoever stores the answer says it
                    self._cache.renew(key, seconds=CLAIM_S)


def spread(jobs: Sequence[Job]) -> list[Job]:
    """All jobs, first samples first, neighbouring classes far apart.

    So a stretch of classes that a server fails on is not taken for a server that fails.
    """
    by_sample: dict[int, list[Job]] = {}
    for job in jobs:
        by_sample.setdefault(job.question.sample, []).append(job)
    return [job for sample in sorted(by_sample) for job in _strided(by_sample[sample])]


def _strided(jobs: Sequence[Job]) -> list[Job]:
    """In steps of the golden ratio of their number, so that any stretch is met evenly."""
    n = len(jobs)
    step = next((step for step in range(round(0.618 * n), n) if gcd(step, n) == 1), 1)
    return [jobs[i * step % n] for i in range(n)]


def now() -> str:
    """The time, with its zone."""
    return datetime.now(UTC).replace(microsecond=0).isoformat()


@cache
def versions() -> dict[str, str]:
    """Of the packages that an answer went through."""
    return {name: version(name) for name in ("vlmprompt", "openai")}

"""One question asked until there is a usable answer, within a bound on requests."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from vlmprompt.describe.provider import AnswerError, Provider, Question, Reply, RequestError


@dataclass(frozen=True)
class Limits:
    """How hard is tried.

    Attributes:
        concurrency: requests under way at once.
        max_retries: further requests for an answer after faults; one more may be spent on repairing an answer.
        timeout_s: of one request, from its first byte to the last.
        first_wait_s: before the first retry; doubles with each, with up to a quarter more or less.
        longest_wait_s: where that doubling ends.
        longest_pause_s: a server that asks to wait longer is not waited for.
    """

    concurrency: int = 16
    max_retries: int = 6
    timeout_s: float = 60.0
    first_wait_s: float = 0.5
    longest_wait_s: float = 8.0
    longest_pause_s: float = 120.0


@dataclass
class Spent:
    """What asking has cost so far."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Both ways."""
        return self.prompt_tokens + self.completion_tokens


class UnansweredError(Exception):
    """No usable answer within the bound.

    Args:
        unheard: it was the server or the way to it that failed, not a model that answered badly.
        refused: the server would not have the question.
    """

    def __init__(self, reason: str, *, unheard: bool, refused: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.unheard, self.refused = reason, unheard, refused


class StoppedError(Exception):
    """Asking is of no use any more."""

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.hint = reason, hint


class Asker:
    """Asks questions, any number at once.

    Attributes:
        spent: over all questions.

    Args:
        read: makes descriptions of an answer; raises AnswerError.
        rng: of the jitter in waiting.
    """

    def __init__(
        self, provider: Provider, read: Callable[[Reply], list[str]], limits: Limits, rng: random.Random
    ) -> None:
        self.spent = Spent()
        self._provider = provider
        self._read = read
        self._limits = limits
        self._rng = rng
        self._open_from = 0.0  # no request goes out before, on the monotonic clock

    async def answer(self, question: Question) -> tuple[Reply, list[str]]:
        """A usable answer: at most 1 + max_retries requests, and one more if an answer has to be repaired.

        Raises:
            UnansweredError: there was none.
            StoppedError: there can be none, nor for any other question.
        """
        retries, repairs = self._limits.max_retries, 1
        while True:
            try:
                reply = await self._request(question)
                return reply, self._read(reply)
            except AnswerError as error:
                if not repairs:
                    raise UnansweredError(error.reason, unheard=error.foreign) from None
                repairs -= 1
                question = question.again(error.earlier, error.remark)
            except RequestError as fault:
                if fault.stops:
                    raise StoppedError(fault.reason, fault.hint) from None
                if retries and (fault.retry or fault.changed):
                    retries -= 1
                elif repairs and fault.changed:
                    repairs -= 1  # asking otherwise is a repair, too
                else:
                    raise UnansweredError(fault.reason, unheard=True, refused=fault.refuses) from None
                await self._wait(fault, self._limits.max_retries - retries)

    async def _request(self, question: Question) -> Reply:
        while (wait_s := self._open_from - time.monotonic()) > 0:
            await asyncio.sleep(wait_s)
        self.spent.requests += 1
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                reply = await self._provider.ask(question)
        except TimeoutError:
            raise RequestError(f"no answer within {self._limits.timeout_s:g} s", retry=True) from None
        self.spent.prompt_tokens += reply.prompt_tokens
        self.spent.completion_tokens += reply.completion_tokens
        return reply

    async def _wait(self, fault: RequestError, attempt: int) -> None:
        """Before the next request: as long as the server says, for all questions; else a little longer each time."""
        if fault.changed:
            return
        if fault.wait_s is not None:
            if fault.wait_s > self._limits.longest_pause_s:
                raise StoppedError(
                    f"{fault.reason}, and asks to wait {fault.wait_s:.0f} s", "the same command later goes on from here"
                )
            self._open_from = max(self._open_from, time.monotonic() + fault.wait_s)
            return
        doublings = min(attempt - 1, 60)  # no float holds any number of them
        wait_s = min(self._limits.longest_wait_s, self._limits.first_wait_s * 2**doublings)
        await asyncio.sleep(wait_s * self._rng.uniform(0.75, 1.25))

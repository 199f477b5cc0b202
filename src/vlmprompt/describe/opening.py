"""Whether a server refuses everything: told by its first words, before all classes are asked about.

A gateway may answer a wrong key or an unknown model as it answers a question that it does not like. One such answer
says nothing of the other questions. Several in the same words, and no other answer yet, do: then no further question
goes out until those under way are settled, and if all were refused in these words, that is the end.
"""

from __future__ import annotations

import asyncio
import re

ALIKE = 3  # first refusals in the same words
_VARYING = re.compile(r"[\w-]*\d[\w-]*")  # numbers of requests, times


class Opening:
    """Looks at what comes until it is something else than one refusal.

    Attributes:
        refused: how many questions, so far all in the same words.
        reason: these words, as they came first.

    Args:
        questions: how many there are in all.
    """

    def __init__(self, questions: int) -> None:
        self.refused = 0
        self.reason = ""
        self._enough = min(ALIKE, max(2, questions))
        self._words: set[str] = set()  # without what differs from question to question
        self._over = False
        self._under_way = 0
        self._settled = asyncio.Condition()

    @property
    def is_closed(self) -> bool:
        """Whether the server refuses everything."""
        return self._doubtful and not self._under_way

    @property
    def _doubtful(self) -> bool:
        return not self._over and self.refused >= self._enough

    async def enter(self) -> bool:
        """Whether a question may go out; waits while the answers to come decide that."""
        async with self._settled:
            await self._settled.wait_for(lambda: not self._doubtful or self.is_closed)
            if self.is_closed:
                return False
            self._under_way += 1
            return True

    async def leave(self, name: str, refusal: str | None) -> None:
        """After a question.

        Args:
            name: of the class; a server may repeat it.
            refusal: in the server's words; None: it was answered, or failed otherwise.
        """
        async with self._settled:
            self._under_way -= 1
            if refusal is None:
                self._over = True
            else:
                self.refused += 1
                self.reason = self.reason or refusal
                self._words.add(_VARYING.sub("#", refusal.replace(name, "#")))
                self._over = self._over or len(self._words) > 1
            self._settled.notify_all()

"""What a process says at its end to the others of its run, so that one of them, the first, tells the user."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from vlmprompt.errors import ExitCode, Interrupted, VlmPromptError, message_of

# How long a process that failed waits to be heard before it speaks for itself: the first one may be busy with a step.
HEARD_WITHIN = timedelta(seconds=20)


class PeerError(VlmPromptError):
    """Another process of this run failed, and the run with it.

    Args:
        code: that with which it ended.
    """

    def __init__(self, message: str, *, hint: str | None = None, code: int = ExitCode.INPUT) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = code  # type: ignore[assignment]


class Words:
    """The last words of a run's processes, in the store that they share.

    Args:
        store: torch's.
    """

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self._store, self._rank, self._size = store, rank, size

    def leave(self, error: BaseException) -> None:
        """Say why this process ends; one that ends because of another has nothing to add."""
        if isinstance(error, PeerError):
            return
        expected = isinstance(error, VlmPromptError)
        stopped = isinstance(error, KeyboardInterrupt | Interrupted)
        message = message_of(error) if expected else f"{type(error).__name__}: {message_of(error)}"
        told = {
            "message": "interrupted" if isinstance(error, KeyboardInterrupt) else message,
            "hint": error.hint if isinstance(error, VlmPromptError) else None,
            "code": int(ExitCode.INTERRUPTED if stopped else getattr(error, "exit_code", ExitCode.BUG)),
        }
        self._quietly(lambda: self._store.set(f"error/{self._rank}", json.dumps(told)))

    def of_another(self) -> PeerError:
        """Why another process has ended."""
        for rank in range(self._size):
            key = f"error/{rank}"
            if rank != self._rank and self._quietly(lambda key=key: self._store.check([key])):
                told = json.loads(self._store.get(key))
                return PeerError(f"process {rank + 1} of {self._size}: {told['message']}", **_rest(told))
        return PeerError(
            f"another of the {self._size} processes of this run has ended without a word; it may have been killed",
            hint="memory may have been short; train --resume goes on from the last checkpoint",
        )

    def heard(self) -> None:
        """The first process has all that it needs to tell the user."""
        self._quietly(lambda: self._store.set("heard", "yes"))

    def wait_until_heard(self) -> bool:
        """Whether the first process tells the user, known when it does."""
        return self._quietly(lambda: self._store.wait(["heard"], HEARD_WITHIN) is None) or False

    def _quietly(self, ask: Callable[[], Any]) -> Any:
        """The answer; None where nobody is there any more to give one."""
        try:
            return ask()
        except RuntimeError:
            return None


def _rest(told: dict[str, Any]) -> dict[str, Any]:
    return {"hint": told["hint"], "code": told["code"]}

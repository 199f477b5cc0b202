"""What a process says at its end to the others of its run, so that one of them, the first, tells the user."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from vlmprompt.errors import ExitCode, VlmPromptError, message_of

# How long a process that failed waits to be heard before it speaks for itself: the first one may be busy with a step.
HEARD_WITHIN = timedelta(seconds=60)
BROKEN, WHOLE = b"broken", b"whole"


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
        self._part = 0

    def begin(self) -> None:
        """What was said of an earlier part of the work counts no more; all processes begin each part."""
        self._part += 1

    def leave(self, error: BaseException) -> None:
        """Say why this process ends; one that ends because of another has nothing to add."""
        if isinstance(error, PeerError):
            return
        expected = isinstance(error, VlmPromptError)
        message = message_of(error) if expected else f"{type(error).__name__}: {message_of(error)}"
        if isinstance(error, KeyboardInterrupt):
            message = "interrupted"
        code = ExitCode.INTERRUPTED if message == "interrupted" else getattr(error, "exit_code", ExitCode.BUG)
        told = {"message": message, "hint": getattr(error, "hint", None) if expected else None, "code": int(code)}
        self._quietly(lambda: self._store.set(self._key(self._rank), json.dumps(told)))

    def of_another(self) -> PeerError:
        """Why another process has ended."""
        return self.left() or PeerError(
            f"another of the {self._size} processes of this run has ended without a word; it may have been killed",
            hint="memory may have been short; train --resume goes on from the last checkpoint",
        )

    def left(self) -> PeerError | None:
        """What another process has said at its end."""
        for rank in range(self._size):
            key = self._key(rank)
            if rank != self._rank and self._quietly(partial(self._store.check, [key])):
                told = json.loads(self._store.get(key))
                message = f"process {rank + 1} of {self._size}: {told['message']}"
                return PeerError(message, hint=told["hint"], code=told["code"])
        return None

    def heard(self, *, broken: bool) -> None:
        """The first process has all that it needs to tell the user.

        Args:
            broken: it ends because of another, so what passes between them is out of step.
        """
        self._quietly(lambda: self._store.set(self._key("heard"), BROKEN if broken else WHOLE))

    def wait_until_heard(self) -> bytes | None:
        """What `heard` says, when it does; None where the first process is gone."""

        def ask() -> bytes:
            self._store.wait([self._key("heard")], HEARD_WITHIN)
            said: bytes = self._store.get(self._key("heard"))
            return said

        found: bytes | None = self._quietly(ask)
        return found

    def _key(self, of: object) -> str:
        return f"vlmprompt/{self._part}/{of}"

    def _quietly(self, ask: Callable[[], Any]) -> Any:
        """The answer; None where nobody is there any more to give one."""
        try:
            return ask()
        except RuntimeError:
            return None


def peer_error(error: BaseException | None) -> PeerError | None:
    """The end of another process that an error followed upon: launchers stop those that are left by a signal."""
    while error is not None and not isinstance(error, PeerError):
        error = error.__cause__ or error.__context__
    return error

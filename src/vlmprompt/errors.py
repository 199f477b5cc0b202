"""Errors that are expected and shown to a user in one line, and the exit codes they map to.

Everything raised on purpose derives from `VlmPromptError` and carries what happened (with the name of
the thing), and what to do next (`hint`). Anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum

MOST_SHOWN = 24  # of known names, in a hint
_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


class ExitCode(IntEnum):
    """Process exit codes, the same for every command. Those of signals are 128 + the signal's number."""

    OK = 0
    BUG = 1
    USAGE = 2
    INPUT = 3
    PLUGIN = 4
    INCOMPLETE = 5
    HANGUP = 129
    INTERRUPTED = 130
    PIPE = 141
    TERMINATED = 143


class VlmPromptError(Exception):
    """An expected failure: one line for the user, no traceback.

    Args:
        message: what happened and to which thing.
        hint: the next step, a command where there is one.
    """

    exit_code = ExitCode.INPUT

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def told(self) -> str:
        """Message and hint where there is one line for both."""
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(VlmPromptError):
    """The command line or a configuration value is wrong (exit 2)."""

    exit_code = ExitCode.USAGE


class InputError(VlmPromptError):
    """Data, a file or the environment is not as needed (exit 3)."""


class CapabilityError(InputError):
    """A backbone or method cannot serve what was asked (exit 3); the message says who needs what."""


class PluginError(VlmPromptError):
    """A plugin that is needed for this very command failed (exit 4)."""

    exit_code = ExitCode.PLUGIN


class IncompleteError(VlmPromptError):
    """The work finished but parts failed; partial results are saved (exit 5)."""

    exit_code = ExitCode.INCOMPLETE


class Interrupted(VlmPromptError):
    """Stopped by Ctrl-C (exit 130), SIGTERM (143) or SIGHUP (129) after the state was flushed."""

    exit_code = ExitCode.INTERRUPTED


def message_of(error: BaseException) -> str:
    """What an error says; one of a plugin may fail even at that."""
    try:
        return str(error)
    except Exception:
        return "(its message cannot be read)"


def is_memory_short(error: BaseException) -> bool:
    """Whether memory was too short, on the device or beside it; libraries have no common type for this."""
    return isinstance(error, MemoryError) or any(sign in message_of(error).lower() for sign in _NO_MEMORY)


def is_of_the_machine(error: BaseException) -> bool:
    """Whether the cause lies in files, disks or memory and in nobody's code."""
    return (isinstance(error, OSError) and error.errno is not None) or is_memory_short(error)


def did_you_mean(name: str, known: Iterable[str], *, limit: int = 3) -> str:
    """A hint with the nearest known names; where none is near with all of them, or with some if they are many.

    Returns:
        One sentence, empty if nothing is known.
    """
    names = sorted(known)
    if near := nearest(name, names, limit=limit):
        return f"did you mean {' or '.join(map(repr, near))}?"
    shown, rest = names[:MOST_SHOWN], len(names) - MOST_SHOWN
    return f"known: {', '.join(shown)}{f' and {rest} more' if rest > 0 else ''}" if names else ""


def nearest(name: str, known: Iterable[str], *, limit: int = 3) -> list[str]:
    """The known names that a misspelt one may stand for, the likeliest first."""
    names = sorted(known)
    written = {other: _plain(other) for other in names}
    close = difflib.get_close_matches(_plain(name), list(dict.fromkeys(written.values())), n=limit, cutoff=0.6)
    return [other for plain in close for other in names if written[other] == plain][:limit]


def _plain(name: str) -> str:
    """A name as people mistake it: "vit_b_16" is as good as "ViT-B-16"."""
    return name.lower().replace("_", "-")

"""A failure in a method's own code is told in the method's name and in that of the package that brought it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from vlmprompt.errors import PluginError, VlmPromptError, is_of_the_machine
from vlmprompt.methods.config import MethodConfig
from vlmprompt.plugins import CORE
from vlmprompt.registry import Entry, one_line


@contextmanager
def blaming(entry: Entry | None, *, wide: bool = False) -> Iterator[None]:
    """Within, what nobody expects becomes an error that names the method, its package and version.

    Errors of ours stay as they are, and so do those that the machine is the cause of (memory, disk), all of the
    methods that come with the core, and of a method that nobody registered: these keep their traceback.

    Args:
        entry: how the method is registered; None: it is not.
        wide: more than calls of the method happens in here, so it is only blamed for what passed through its code.

    Raises:
        PluginError: the method's code failed; the error itself is its cause.
    """
    try:
        yield
    except VlmPromptError:
        raise
    except (Exception, SystemExit) as error:
        if entry is None or entry.distribution == CORE or is_of_the_machine(error):
            raise
        own = _own_frames(error, entry)
        if wide and not own:
            raise
        raise PluginError(_words(error, entry, own), hint=_next_step(error, entry)) from error


def _words(error: BaseException, entry: Entry, own: list[tuple[FrameType, int]]) -> str:
    if option := _missing_option(error):
        return f"{entry.told} reads an option {option!r}, but is registered {_with_which(entry)}"
    frames = own or list(traceback.walk_tb(error.__traceback__))
    frame, line = frames[-1]
    where = f"{frame.f_code.co_qualname} ({Path(frame.f_code.co_filename).name}, line {line})"
    return f"{entry.told} failed in {where}: {one_line(error)}"


def _next_step(error: BaseException, entry: Entry) -> str:
    if _missing_option(error):
        return f"{entry.author}: config= of register() names the class of a method's options"
    return f"{entry.author}; --debug shows all that led to it"


def _missing_option(error: BaseException) -> str | None:
    """The option that a method reads though its configuration has none of that name."""
    if isinstance(error, AttributeError) and isinstance(error.obj, MethodConfig):
        return error.name
    return None


def _with_which(entry: Entry) -> str:
    return "without options" if entry.config is None else f"with those of {entry.config}, which has none of that name"


def _own_frames(error: BaseException, entry: Entry) -> list[tuple[FrameType, int]]:
    """Where an error passed through the code of the method's package, the innermost last."""
    package = entry.target.partition(":")[0].partition(".")[0]
    frames = traceback.walk_tb(error.__traceback__)
    return [(f, line) for f, line in frames if str(f.f_globals.get("__name__")).partition(".")[0] == package]

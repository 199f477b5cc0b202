"""Errors as commands end with them: an exit code and, on stderr, a reason and the next step."""

from __future__ import annotations

import errno
import sys
import traceback
from typing import Any

import typer

from vlmprompt import shown
from vlmprompt.cli import output
from vlmprompt.errors import (
    ExitCode,
    InputError,
    Interrupted,
    PluginError,
    UsageError,
    VlmPromptError,
    is_memory_short,
    message_of,
)

PROG = "vlmprompt"
# Everything the parser raises derives from the base of BadParameter, which typer does not export itself.
_ParserError: Any = typer.BadParameter.__base__
# An OSError that names a file, or is of these, is the machine's state (disk full, read-only, no rights), not a bug.
_ENVIRONMENT = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.EMFILE, errno.EIO}
_STEPS = {
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "its links lead in a circle",
    errno.ENOENT: "check the name",
    errno.EISDIR: "name a file",
    errno.ENOTDIR: "name a folder",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}
_SHOWN = 80  # characters of a name that is too long
_OTHER_STEP = "free some space, or name a folder that can be written"
# Modules whose recursion is as deep as what they read.
_READERS = ("json.", "tomllib.")


def report(error: BaseException, command: str, *, as_json: bool, debug: bool) -> int:
    """Tell of an error on stderr, and in the document; gives the exit code."""
    known = expected(error)
    if known is None or debug:
        print(*map(shown.cell, traceback.format_exception(error)), sep="", end="", file=sys.stderr)
    if known is None:
        output.say("error", output.bug_line(error), "red")
        output.say("hint", "this is a bug in vlmprompt or in a plugin: please report it with the lines above")
    elif known.message:  # empty: the parser has printed the help in place of an error
        output.say("error", known.message, "red")
        if known.hint:
            output.say("hint", known.hint, "cyan")
    if as_json:
        output.write_document(command, None, known or error)
    return int(ExitCode.BUG) if known is None else output.exit_code(known)


def expected(error: BaseException) -> VlmPromptError | None:
    """The error as one of ours, or None for a bug."""
    interrupted = _is_interrupt(error)
    if isinstance(error, VlmPromptError) and not (interrupted and isinstance(error, PluginError)):
        return error
    if isinstance(error, _ParserError):
        context = getattr(error, "ctx", None)
        path = context.command_path if context else PROG
        return UsageError(_sentence(error.format_message()), hint=f"see '{path} --help'")
    if isinstance(error, typer.Abort):
        return Interrupted("aborted")
    if interrupted:
        return Interrupted("interrupted")
    return _of_the_machine(error)


def _of_the_machine(error: BaseException) -> VlmPromptError | None:
    """Errors that say something of files, memory or input, wherever they come from."""
    text = message_of(error)
    if isinstance(error, OSError) and (error.filename is not None or error.errno in _ENVIRONMENT):
        where = "" if error.filename is None else f": {error.filename}"
        if error.errno == errno.ENAMETOOLONG:
            where = f"{where[:_SHOWN]}..."
        return InputError(f"{error.strerror}{where}", hint=_STEPS.get(error.errno or 0, _OTHER_STEP))
    if is_memory_short(error):
        return InputError(
            f"memory is too short: {text or 'for what was asked'}",
            hint="lower --batch-size, --shots or the method's sizes, or use another --device",
        )
    if isinstance(error, EOFError) and text == "EOF when reading a line":  # of input()
        return InputError("something asked a question, and standard input is at its end", hint="see --debug for what")
    if isinstance(error, RecursionError) and _innermost(error).startswith(_READERS):
        return InputError("a file is nested too deeply to be read", hint="see --debug for which")
    return None


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether a stop was asked for; native libraries turn it into errors of their own while they are imported."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _innermost(error: BaseException) -> str:
    """The module in which an error came up."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__", "")) if frames else ""


def _sentence(text: str) -> str:
    """The parser's message in the shape of ours: lower case, no full stop."""
    text = text.strip()
    return (text[:1].lower() + text[1:]).removesuffix(".")

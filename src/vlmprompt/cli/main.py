"""The way in: runs the application and turns every ending into an exit code and, on stderr, a reason."""

from __future__ import annotations

import errno
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from typing import Any

import typer

from vlmprompt import plugins
from vlmprompt.cli import output
from vlmprompt.cli.app import build
from vlmprompt.errors import ExitCode, InputError, Interrupted, UsageError, VlmPromptError

PROG = "vlmprompt"
# Everything the parser raises derives from the base of BadParameter, which typer does not export itself.
_ParserError: Any = typer.BadParameter.__base__
# Options whose value may be left out, and what it is then; the parser knows no such thing.
_OPTIONAL_VALUES = {"--random-weights": "0"}
# An OSError of these is the machine's state (disk full, read-only, no rights), not a bug.
_ENVIRONMENT = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT}
_NO_PATH = {errno.ENAMETOOLONG, errno.ELOOP}  # what pathlib raises where it is asked whether a path exists


@dataclass(frozen=True)
class Invocation:
    """A command line, without the flags that may stand anywhere on it."""

    args: list[str]
    as_json: bool
    debug: bool
    core_only: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        argv: arguments without the program's name; None: those of the process.

    Returns:
        The exit code (see `ExitCode`).
    """
    call = _read(sys.argv[1:] if argv is None else argv)
    output.begin(sys.stdout)
    # Under --json nothing but the document may reach stdout, whatever a library or a plugin prints.
    with redirect_stdout(sys.stderr) if call.as_json else nullcontext(), warnings.catch_warnings():
        warnings.showwarning = _show_warning
        command = ""
        try:
            app = _load(call)
            command = _command_name(app, call.args)
            _check_plugins(command)
            code = app.main(call.args, prog_name=PROG, standalone_mode=False)
            if code == ExitCode.INTERRUPTED:  # how typer returns a KeyboardInterrupt
                raise Interrupted("interrupted")
            return code if isinstance(code, int) else 0
        except Exception as error:
            return _report(error, command, call)
        except KeyboardInterrupt:
            return _report(Interrupted("interrupted"), command, call)


def _show_warning(message: Warning | str, *where: object, **more: object) -> None:
    """What libraries and methods say through `warnings`, as a line like any other."""
    output.warn(" ".join(str(message).split()))


def _read(argv: Sequence[str]) -> Invocation:
    end = argv.index("--") if "--" in argv else len(argv)
    head, tail = list(argv[:end]), list(argv[end:])
    args = [arg for arg in head if arg not in ("--debug", "--no-plugins")]
    for i in range(len(args) - 1, -1, -1):
        value = args[i + 1] if i + 1 < len(args) else ""
        if args[i] in _OPTIONAL_VALUES and not value.lstrip("-").isdigit():
            args.insert(i + 1, _OPTIONAL_VALUES[args[i]])
    return Invocation(args + tail, "--json" in head, "--debug" in head, "--no-plugins" in head)


def _load(call: Invocation) -> Any:
    if call.core_only:
        os.environ[plugins.DISABLE] = "*"  # through the environment, so that child processes agree
    if call.core_only or plugins.loaded_host() is None:
        plugins.load_host()
    host = plugins.loaded_host()
    assert host is not None
    return build(host)


def _check_plugins(command: str) -> None:
    """Say in a line each what failed; `doctor` says it itself, at length."""
    host = plugins.loaded_host()
    if host is None or command == "doctor" or f"_{PROG.upper()}_COMPLETE" in os.environ:
        return
    host.require_all()
    for text in host.warnings:
        output.warn(text)
    for failure in host.failures:
        output.say("warning", f"{failure} ({PROG} doctor explains)", "yellow")


def _command_name(app: Any, args: Sequence[str]) -> str:
    """The command that the arguments name, as far as they name one: "methods show"."""
    names: list[str] = []
    group = app
    for arg in args:
        if arg.startswith("-"):
            continue
        group = group.get_command(None, arg) if hasattr(group, "get_command") else None
        if group is None:
            break
        names.append(arg)
    return " ".join(names)


def _report(error: Exception, command: str, call: Invocation) -> int:
    """Tell of an error on stderr, and in the document; gives the exit code."""
    known = _expected(error)
    if known is None or call.debug:
        traceback.print_exception(error)
    if known is None:
        output.say("error", f"{type(error).__name__}: {error}", "red")
        output.say("hint", "this is a bug in vlmprompt or in a plugin: please report it with the lines above")
    elif known.message:  # empty: the parser has printed the help in place of an error
        output.say("error", known.message, "red")
        if known.hint:
            output.say("hint", known.hint, "cyan")
    if call.as_json:
        output.write_document(command, None, known or error)
    return int(ExitCode.BUG if known is None else known.exit_code)


def _expected(error: Exception) -> VlmPromptError | None:
    """The error as one of ours, or None for a bug."""
    if isinstance(error, VlmPromptError):
        return error
    if isinstance(error, _ParserError):
        context = getattr(error, "ctx", None)
        path = context.command_path if context else PROG
        return UsageError(_sentence(error.format_message()), hint=f"see '{path} --help'")
    if isinstance(error, typer.Abort):
        return Interrupted("aborted")
    if isinstance(error, OSError) and error.errno in _ENVIRONMENT:
        where = f": {error.filename}" if error.filename else ""
        return InputError(f"{error.strerror}{where}", hint="free some space, or name a folder that can be written")
    if isinstance(error, OSError) and error.errno in _NO_PATH:
        return InputError(f"{error.strerror}: {str(error.filename)[:80]}...", hint="check the path")
    return None


def _sentence(text: str) -> str:
    """The parser's message in the shape of ours: lower case, no full stop."""
    text = text.strip()
    return (text[:1].lower() + text[1:]).removesuffix(".")

"""The way in: runs the application and turns every ending into an exit code and, on stderr, a reason."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import typer

from vlmprompt import plugins, signals
from vlmprompt.cli import environment, output
from vlmprompt.cli.app import build, plugin_commands
from vlmprompt.cli.failures import PROG, report
from vlmprompt.cli.loading import announced
from vlmprompt.cli.several import one_of_several, require_divisible, with_others
from vlmprompt.cli.streams import standard_streams, unasked
from vlmprompt.errors import ExitCode, InputError, PluginError, UsageError
from vlmprompt.parallel.launched import Launch, launch

# Options whose value may be left out, and what it is then; the parser knows no such thing.
_OPTIONAL_VALUES = {"--random-weights": "0"}
_COMPLETION = f"_{PROG.upper()}_COMPLETE"


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
    closed = sys.stdout is None
    environment.settle_sizes()
    say_goodbye = partial(report, KeyboardInterrupt(), "", as_json=call.as_json, debug=False)
    with (
        standard_streams(as_json=call.as_json) as out,
        signals.stopping(say_goodbye),
        warnings.catch_warnings(),
        announced(quiet=call.as_json),
    ):
        output.begin(out)
        warnings.showwarning = _show_warning
        code = _closed(call) if closed and call.as_json else _launched(call)
    return ExitCode.PIPE if code == ExitCode.OK and out.abandoned else code


def _launched(call: Invocation) -> int:
    """Run the command, in this process or in several together."""
    try:
        place = launch()
    except InputError as error:
        return report(error, "", as_json=call.as_json, debug=call.debug)
    return _run(call) if place is None else one_of_several(place, partial(_run, call, place))


def _run(call: Invocation, place: Launch | None = None) -> int:
    """Run the command; whatever ends it becomes an exit code."""
    command = ""
    try:
        with with_others(place):
            _require_text(call.args)
            app = _load(call)
            command = _command_name(app, call.args)
            require_divisible(place, command, call.args)
            output.running(command, call.args)
            _check_plugins(command)
            _require_values(call.args, command)
            try:
                code = _invoke(app, call.args)
            finally:  # before an error, which stays the last that is said
                output.count_repeated()
            sys.stdout.flush()
            return code
    except SystemExit as leaving:
        return _left(leaving, command, call)
    except BaseException as error:
        return report(error, command, as_json=call.as_json, debug=call.debug)


def _invoke(app: Any, args: list[str]) -> int:
    """What typer's own `main` does, but that it takes every end of input and every broken pipe for the user's."""
    if _COMPLETION in os.environ:
        app.main(args, prog_name=PROG)
    try:
        with app.make_context(PROG, args) as context:
            code = app.invoke(context)
    except typer.Exit as leaving:
        code = leaving.exit_code
    return code if isinstance(code, int) else ExitCode.OK


def _left(leaving: SystemExit, command: str, call: Invocation) -> int:
    """Somebody called `sys.exit`: a plugin's command may, in the midst of one of ours it is a failure."""
    host = plugins.loaded_host()
    if _COMPLETION in os.environ or (host and command.partition(" ")[0] in plugin_commands(host)):
        if isinstance(leaving.code, int | None):
            return leaving.code or ExitCode.OK
        error: Exception = PluginError(str(leaving.code))
    else:
        error = PluginError(f"something called sys.exit({leaving.code!r}) in the midst of the command")
    return report(error.with_traceback(leaving.__traceback__), command, as_json=call.as_json, debug=call.debug)


def _closed(call: Invocation) -> int:
    error = InputError(
        "standard output is closed, so there is no place for the JSON document", hint="leave --json out, or open it"
    )
    return report(error, "", as_json=False, debug=call.debug)


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


def _require_text(args: Sequence[str]) -> None:
    """Names end up in files of ours, which are UTF-8; and no file's name holds a zero byte."""
    for arg in args:
        if not arg.isascii() and arg.encode("utf-8", "replace").decode() != arg:
            raise UsageError(f"argument {arg} is no UTF-8", hint="rename what it names, or set a UTF-8 locale")
        if "\0" in arg:
            raise UsageError(f"argument {arg} holds a zero byte", hint="leave it out")


def _require_values(args: Sequence[str], command: str) -> None:
    """No option of ours means anything without a value: an unset variable of a script stands behind it."""
    host = plugins.loaded_host()
    if host is None or command.partition(" ")[0] in plugin_commands(host):
        return
    for before, arg in zip(("", *args), args, strict=False):
        if not arg or (arg.startswith("--") and arg.endswith("=") and arg.count("=") == 1):
            what = arg.rstrip("=") or (before if before.startswith("-") else "an argument")
            raise UsageError(
                f"{what} is empty", hint=f"give it a value, or leave it out; see '{PROG} {command} --help'"
            )


def _load(call: Invocation) -> Any:
    if call.core_only:
        os.environ[plugins.DISABLE] = "*"  # through the environment, so that child processes agree
    if call.core_only or plugins.loaded_host() is None:
        with unasked():
            plugins.load_host()
    host = plugins.loaded_host()
    assert host is not None
    return build(host)


def _check_plugins(command: str) -> None:
    """Say in a line each what failed; `doctor` says it itself, at length."""
    host = plugins.loaded_host()
    if host is None or _COMPLETION in os.environ:
        return
    for text in environment.unknown_variables(host):
        output.warn(text)
    if command == "doctor":
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

"""What reaches stdout and what stderr, in which shape, and with which exit code."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from vlmprompt import plugins
from vlmprompt.cli import main as cli
from vlmprompt.cli import output
from vlmprompt.cli.options import JsonFlag, RandomWeightsOption
from vlmprompt.cli.output import Table, emit
from vlmprompt.errors import IncompleteError, InputError, Interrupted, PluginError, UsageError
from vlmprompt.registry import Source

Run = Callable[..., int]
ENVELOPE = ["schema", "command", "ok", "data", "warnings", "plugin_failures"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run(function, *args)` runs the command line `vlmprompt try *args`, where `try` is that function."""

    def run(command: Callable[..., Any], *args: str) -> int:
        app = typer.Typer()
        app.command("try")(command)
        host = plugins.PluginHost()
        host.commands.append((Source("test", "test", "1"), app))
        monkeypatch.setattr(plugins, "_host", host)
        return cli.main(["try", *args])

    return run


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The one document on stdout."""
    text = capsys.readouterr().out
    found: dict[str, Any] = json.loads(text)
    return found


def raising(error: BaseException) -> Callable[..., None]:
    def command(as_json: JsonFlag = False) -> None:
        raise error

    return command


def test_the_document_has_exactly_the_agreed_keys(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    def command(as_json: JsonFlag = False) -> None:
        print("a library prints")
        output.warn("take care")
        emit("try", {"path": Path("a/b"), "names": {"b", "a"}}, as_json=as_json, table="for people")

    assert run(command, "--json") == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert list(found) == ENVELOPE
    assert found == {
        "schema": 1,
        "command": "try",
        "ok": True,
        "data": {"path": "a/b", "names": ["a", "b"]},
        "warnings": ["take care"],
        "plugin_failures": [],
    }
    assert captured.err == "a library prints\nwarning: take care\n"

    assert run(command) == 0
    assert capsys.readouterr().out == "a library prints\nfor people\n"


def test_nan_is_never_written(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    def command(as_json: JsonFlag = False) -> None:
        emit("try", {"loss": float("nan")}, as_json=as_json)

    assert run(command, "--json") == 1
    assert "NaN" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("what", hint="next"), 2),
        (InputError("what", hint="next"), 3),
        (PluginError("what", hint="next"), 4),
        (IncompleteError("what", hint="next"), 5),
        (Interrupted("what", hint="next"), 130),
    ],
)
def test_an_expected_error_is_two_lines_and_its_class_exit_code(
    error: Exception, code: int, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(raising(error)) == code
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "error: what\nhint: next\n")

    assert run(raising(error), "--json") == code
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert list(found) == [*ENVELOPE, "error"]
    assert (found["ok"], found["data"]) == (False, None)
    assert found["error"] == {"code": code, "message": "what", "hint": "next"}
    assert captured.err == "error: what\nhint: next\n"


def test_debug_shows_the_traceback_and_may_stand_anywhere(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(InputError("what")), "--debug") == 3
    error = capsys.readouterr().err
    assert error.startswith("Traceback")
    assert error.endswith("error: what\n")


def test_a_bug_keeps_its_traceback_and_asks_to_be_reported(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(ZeroDivisionError("oops")), "--json") == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("Traceback")
    assert "error: ZeroDivisionError: oops" in captured.err
    assert "report" in captured.err.splitlines()[-1]
    assert json.loads(captured.out)["error"] == {"code": 1, "message": "ZeroDivisionError: oops", "hint": None}


def test_a_full_disk_is_no_bug(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "runs/x/state.json")
    assert run(raising(full)) == 3
    assert capsys.readouterr().err.startswith("error: No space left on device: runs/x/state.json\nhint: ")
    assert run(raising(OSError(errno.EBADF, "Bad file descriptor"))) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), typer.Abort()])
def test_an_interrupt_is_130(error: BaseException, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(error), "--json") == 130
    assert document(capsys)["error"]["code"] == 130


def test_ctrl_c_in_a_process(tmp_path: Path) -> None:
    code = """
        import sys, typer
        from vlmprompt import plugins
        from vlmprompt.cli.main import main
        from vlmprompt.registry import Source
        app = typer.Typer()
        @app.command("wait")
        def wait():
            print("ready", flush=True)
            sys.stdin.read()
        plugins.load_host().commands.append((Source("t", "t", "1"), app))
        sys.exit(main(["wait"]))
    """
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], text=True, **pipes)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    assert (process.returncode, error) == (130, "error: interrupted\n")


def test_partial_results_and_the_error_share_one_document(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    def command(as_json: JsonFlag = False) -> None:
        emit("try", {"done": 3}, as_json=as_json, table="3 done", error=IncompleteError("1 of 4 failed"))

    assert run(command, "--json") == 5
    found = document(capsys)
    assert (found["ok"], found["data"], found["error"]["code"]) == (False, {"done": 3}, 5)
    assert run(command) == 5
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("3 done\n", "error: 1 of 4 failed\n")


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["--jason"], "no such option: --jason", "see 'vlmprompt try --help'"),
        (["--number", "x"], "invalid value for '--number'", "see 'vlmprompt try --help'"),
        (["more"], "got unexpected extra argument", "see 'vlmprompt try --help'"),
    ],
)
def test_usage_errors_have_the_same_shape(
    args: list[str], message: str, hint: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(number: int = 0, as_json: JsonFlag = False) -> None: ...

    assert run(command, *args, "--json") == 2
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert (found["ok"], found["command"], found["error"]["code"]) == (False, "try", 2)
    assert found["error"]["message"].startswith(message)
    assert found["error"]["hint"] == hint
    assert captured.err == f"error: {found['error']['message']}\nhint: {hint}\n"


@pytest.mark.filterwarnings("default:n_ctx has")
def test_python_warnings_join_the_document(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    def command(as_json: JsonFlag = False) -> None:
        warnings.warn("n_ctx has\n no effect", stacklevel=1)
        emit("try", {}, as_json=as_json)

    assert run(command, "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["warnings"] == ["n_ctx has no effect"]
    assert captured.err == "warning: n_ctx has no effect\n"


@pytest.mark.parametrize(
    ("args", "value"),
    [
        ([], None),
        (["--random-weights"], 0),
        (["--random-weights", "7"], 7),
        (["--random-weights", "--name", "x"], 0),
        (["--name", "x", "--random-weights"], 0),
        (["--random-weights=3"], 3),
    ],
)
def test_random_weights_needs_no_value(args: list[str], value: int | None, run: Run) -> None:
    seen: list[int | None] = []

    def command(name: str = "", random_weights: RandomWeightsOption = None) -> None:
        seen.append(random_weights)

    assert run(command, *args) == 0
    assert seen == [value]


def test_tables_keep_one_line_a_row_in_a_pipe_and_fit_80_columns(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [("short", "word " * 30), ("a-name-that-stays-whole", "[x] is no markup"), ("none", None)]

    def command() -> None:
        emit("try", {}, as_json=False, table=Table(("name", "text"), rows))

    monkeypatch.delenv("COLUMNS", raising=False)
    assert run(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["name", "short", "a-name-that-stays-whole", "none"]
    assert lines[2].endswith("[x] is no markup")
    assert lines == [line.rstrip() for line in lines]

    monkeypatch.setenv("COLUMNS", "80")
    assert run(command) == 0
    narrow = capsys.readouterr().out.splitlines()
    assert max(map(len, narrow)) <= 80
    assert sum(line.count("word") for line in narrow) == 30
    assert any(line.startswith("a-name-that-stays-whole  [x]") for line in narrow)


def test_a_long_first_column_gives_way_before_a_head_is_broken(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = ("data set", "state", "expected", "found", "missing", "stray", "broken")
    path = "folder:/" + "photographs/" * 5 + "of-the-year"

    def command() -> None:
        emit("try", {}, as_json=False, table=Table(heads, [(path, "ok", "100/-/40", "100/-/40", 0, 0, 0)]))

    monkeypatch.setenv("COLUMNS", "80")
    assert run(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["data", "set", *heads[1:]]
    assert lines[1].split()[1:] == ["ok", "100/-/40", "100/-/40", "0", "0", "0"]
    assert max(map(len, lines)) <= 80
    assert lines[1].split()[0] + "".join(lines[2:]) == path


@pytest.mark.parametrize("columns", ["80", ""])
def test_a_title_longer_than_its_table_stays_whole(
    columns: str, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = "/photographs" * 10

    def command() -> None:
        emit("try", {}, as_json=False, table=Table(("name", "n"), [("one", 1)], title=folder))

    monkeypatch.setenv("COLUMNS", columns)
    assert run(command) == 0
    assert capsys.readouterr().out.splitlines() == [folder, "name  n", "one   1"]


def test_a_warning_is_said_once(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    def command(as_json: JsonFlag = False) -> None:
        for text in ("take care", "of this", "take care"):
            output.warn(text)
        emit("try", {}, as_json=as_json)

    assert run(command, "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["warnings"] == ["take care", "of this"]
    assert captured.err == "warning: take care\nwarning: of this\nwarning: 2 times: take care\n"

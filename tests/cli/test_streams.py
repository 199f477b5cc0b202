"""Terminals that cannot show everything, readers that leave, closed streams; and stdout kept for the document."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from vlmprompt import plugins
from vlmprompt.cli import output
from vlmprompt.cli.main import main
from vlmprompt.cli.options import JsonFlag
from vlmprompt.cli.output import Table, emit
from vlmprompt.cli.progress import CliProgress
from vlmprompt.cli.streams import standard_streams
from vlmprompt.registry import Source

Install = Callable[[Callable[..., None]], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Makes a function the command `try`."""

    def install(command: Callable[..., None]) -> None:
        app = typer.Typer()
        app.command("try")(command)
        host = plugins.PluginHost()
        host.commands.append((Source("test", "test", "1"), app))
        monkeypatch.setattr(plugins, "_host", host)

    return install


class Closing(io.TextIOWrapper):
    """A stream whose writes fail from the start."""

    def __init__(self, number: int) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))


def encoded(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)


def written(stream: io.TextIOWrapper) -> str:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode(stream.encoding)


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "fpr v 1 +- 2 - cafe \\u65e5 -+-|"),
        ("latin-1", "fpr v 1 ± 2 - café \\u65e5 -+-|"),
        ("cp1252", "fpr v 1 ± 2 – café \\u65e5 -+-|"),
        ("utf-8", "fpr ↓ 1 ± 2 – café 日 ─┼━│"),
    ],
)
def test_what_an_encoding_lacks_is_written_alike(
    encoding: str, shown: str, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "fpr ↓ 1 ± 2 – café 日 ─┼━│"

    def command() -> None:
        output.warn(text)
        with CliProgress(bars=False).task(text, 1):
            pass
        emit("try", {}, as_json=False, table=[Table((text,), [(text,)]), text])

    install(command)
    out, err = encoded(encoding), encoded(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert main(["try"]) == 0
    assert [line.rstrip() for line in written(out).splitlines()] == [shown] * 3
    assert written(err).startswith(f"warning: {shown}\n{shown}: 0/1 it")
    assert main(["--help"]) == 0 and "Usage: vlmprompt" in written(out)
    assert main(["try", "--façon↓"]) == 2
    assert "error: no such option: --fa" in written(err)


def test_a_reader_that_left_is_no_error(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def command(name: str = "") -> None:
        print("a line")
        done.append(name)

    install(command)
    monkeypatch.setattr(sys, "stdout", Closing(errno.EPIPE))
    assert main(["try"]) == 141
    assert done == [""]  # what was under way is done all the same
    assert main(["try", "--nothing"]) == 2
    monkeypatch.undo()
    install(command)
    monkeypatch.setattr(sys, "stderr", Closing(errno.EIO))  # a terminal that was closed
    assert main(["try", "--nothing"]) == 2


def test_a_full_disk_behind_stdout_is_named(
    install: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(lambda: print("a line"))
    monkeypatch.setattr(sys, "stdout", Closing(errno.ENOSPC))
    assert main(["try"]) == 3
    assert capsys.readouterr().err.startswith("error: No space left on device: standard output\nhint: ")


def test_pipes_and_closed_streams_in_processes() -> None:
    def run(redirection: str, *args: str) -> tuple[int, str]:
        command = f'"$0" -m vlmprompt {" ".join(args)} {redirection}'
        shell = ["bash", "-c", command, sys.executable]
        done = subprocess.run(shell, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    assert run("| true; exit ${PIPESTATUS[0]}", "--version") == (141, "")
    assert run(">&-", "--version") == (0, "")
    assert run("2>&- >&- <&-", "--nothing") == (2, "")
    code, said = run(">&-", "methods", "list", "--json")
    assert code == 3
    assert said.startswith("error: standard output is closed, so there is no place for the JSON document\nhint: ")


def test_the_document_stands_alone_whatever_writes_to_stdout(
    install: Install, capfd: pytest.CaptureFixture[str]
) -> None:
    def command(as_json: JsonFlag = False) -> None:
        os.write(1, b"by number\n")
        subprocess.run(["sh", "-c", "echo from a child"], check=True)
        print("by name")
        assert sys.stdin.read() == ""
        emit("try", {"n": 1}, as_json=as_json)

    install(command)
    assert main(["try", "--json"]) == 0
    captured = capfd.readouterr()
    assert json.loads(captured.out)["data"] == {"n": 1}
    assert sorted(captured.err.splitlines()) == ["by name", "by number", "from a child"]
    os.write(1, b"afterwards\n")
    assert capfd.readouterr().out == "afterwards\n"


def test_what_exit_handlers_print_does_not_follow_the_document(tmp_path: Path) -> None:
    code = """
import atexit, os, sys
atexit.register(os.write, 1, b"by number")
atexit.register(print, "by name", file=sys.__stdout__)
sys.argv[1:] = ["methods", "list", "--json"]
from vlmprompt.__main__ import run
sys.exit(run())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["ok"] is True
    assert "by name" in done.stderr and "by number" in done.stderr


def test_at_its_end_a_process_does_not_look_for_garbage() -> None:
    code = """
import atexit, gc, sys
atexit.register(lambda: print(gc.get_freeze_count() > len(gc.get_objects())))
sys.argv[1:] = ["methods", "list"]
from vlmprompt.__main__ import run
sys.exit(run())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True"


def test_a_question_finds_the_end_of_input(install: Install, capfd: pytest.CaptureFixture[str]) -> None:
    def command(as_json: JsonFlag = False) -> None:
        input("go on? ")

    install(command)
    assert main(["try", "--json"]) == 3
    error = json.loads(capfd.readouterr().out)["error"]
    assert error["message"] == "something asked a question, and standard input is at its end"


def test_streams_are_put_back() -> None:
    before = (sys.stdin, sys.stdout, sys.stderr)
    with standard_streams(as_json=True) as out:
        assert (sys.stdin, sys.stdout) != before[:2]
        out.write("{}")
    assert (sys.stdin, sys.stdout, sys.stderr) == before


ESC = "\x1b[31m"
NASTY = f"[red]{ESC}a\rb\x07\u202ec\x9b"
ESCAPED = "[red]\\u001b[31ma\\u000db\\u0007\\u202ec\\u009b"


def test_texts_from_outside_do_not_steer_the_terminal(
    install: Install, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(fail: bool = False) -> None:
        if fail:
            raise ZeroDivisionError(NASTY)
        output.warn(NASTY)
        progress: Any = CliProgress(bars=False)
        progress.message(NASTY)
        with progress.task(NASTY, 1) as task:
            task.advance(name=NASTY)
        emit("try", {}, as_json=False, table=[Table((NASTY,), [(NASTY,)], title=NASTY), NASTY])

    install(command)
    assert main(["try"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [ESCAPED] * 4
    assert captured.err.count(ESCAPED) == 4 and not {"\x1b", "\r", "\x07"} & set(captured.err)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with CliProgress(bars=True).task(NASTY, 1) as task:
        task.advance(name=NASTY)
    assert ESC + "a" not in capsys.readouterr().err
    assert main(["try", "--fail"]) == 1
    captured = capsys.readouterr()
    assert f"error: ZeroDivisionError: {ESCAPED}" in captured.err and "\r" not in captured.err
    assert main(["try", NASTY]) == 2
    assert not {"\x1b", "\r", "\u202e"} & set(capsys.readouterr().err)


def test_an_error_is_one_line_and_of_a_long_one_both_ends_are_shown(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        output.warn(f"class {'x' * 30_000_000}\nis too long")
        emit("try", {}, as_json=False, table=Table(("name",), [("y" * 30_000_000,)]))

    install(command)
    assert main(["try"]) == 0
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("warning: class xxx") and line.endswith("xxx is too long") and len(line) < 1100
    assert " ... (30,000,018 characters in all) ... " in line
    assert len(captured.out) < 1100

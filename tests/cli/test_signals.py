"""Ctrl-C, SIGTERM and SIGHUP: one line, the conventional exit code, no traceback, whenever they come."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from vlmprompt import plugins, signals
from vlmprompt.cli.main import main
from vlmprompt.cli.options import JsonFlag
from vlmprompt.registry import Source
from vlmprompt.training.stop import stop_on_signals

# What the module `slow` does is what a native library does while it is imported: it turns the exception around.
SLOW = """
import os, signal, sys
try:
    os.kill(os.getpid(), getattr(signal, os.environ["SENT"]))
    for _ in range(10_000): pass
except KeyboardInterrupt:
    raise ImportError("cannot be initialised") from None
"""


def arrange(command: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer()
    app.command("try")(command)
    host = plugins.PluginHost()
    host.commands.append((Source("test", "test", "1"), app))
    monkeypatch.setattr(plugins, "_host", host)


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_a_command(
    name: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flushed: list[str] = []

    def command(as_json: JsonFlag = False) -> None:
        try:
            signal.raise_signal(getattr(signal, name))
        finally:
            flushed.append(name)

    arrange(command, monkeypatch)
    before = {number: signal.getsignal(number) for number in signals.NUMBERS}
    assert main(["try", "--json"]) == code
    captured = capsys.readouterr()
    assert captured.err == "error: interrupted\n" and flushed == [name]
    assert json.loads(captured.out)["error"] == {"code": code, "message": "interrupted", "hint": None}
    assert {number: signal.getsignal(number) for number in signals.NUMBERS} == before
    assert main(["try", "--nothing"]) == 2  # what came before is forgotten


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_is_a_wish_in_the_loop(name: str, code: int) -> None:
    number = getattr(signal, name)
    with signals.stopping(bool):
        with stop_on_signals() as stop:
            signal.raise_signal(number)
            assert stop.requested
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
        assert signals.exit_code() == code


def test_what_was_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under nohup."""
    done: list[bool] = []

    def command() -> None:
        with stop_on_signals() as stop:
            signal.raise_signal(signal.SIGHUP)
            done.append(stop.requested)
        signal.raise_signal(signal.SIGHUP)

    arrange(command, monkeypatch)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert main(["try"]) == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert done == [False]


def test_a_fork_ends_by_the_signal_itself() -> None:
    with signals.stopping(bool):
        child = os.fork()
        if child == 0:
            signal.raise_signal(signal.SIGTERM)
            os._exit(0)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM


def test_in_an_import_the_process_ends_at_once(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    code = """
        import sys, typer
        from vlmprompt import plugins
        from vlmprompt.__main__ import run
        from vlmprompt.registry import Source
        if "early" in sys.argv[1:]:
            class Finder:
                def find_spec(self, name, *where):
                    if name == "vlmprompt.cli.main":
                        import slow
            sys.meta_path.insert(0, Finder())
        app = typer.Typer()
        @app.command("try")
        def command(json: bool = False):
            import slow
        plugins.load_host().commands.append((Source("t", "t", "1"), app))
        sys.argv[1:] = ["try", "--json"]
        sys.exit(run())
    """
    for name, exit_code, *when in (("SIGINT", 130), ("SIGTERM", 143), ("SIGINT", 130, "early")):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), *when],
            env=dict(os.environ, SENT=name, PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path])),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (exit_code, "error: interrupted\n")
        if not when:
            document = json.loads(done.stdout)
            assert (document["command"], document["error"]["code"]) == ("try", exit_code)


def test_python_m_ends_with_the_code_even_if_a_library_ran_a_text(tmp_path: Path) -> None:
    """Else `python -m` would end by the signal, as code run from a text was interrupted."""
    (tmp_path / "sitecustomize.py").write_text(
        "import vlmprompt.cli.main as cli\n"
        "def main(): exec('import signal; signal.raise_signal(signal.SIGINT)')\n"
        "cli.main = main\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "vlmprompt"],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path])),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")

"""Progress on stderr: plain lines without a terminal, bars with one."""

from __future__ import annotations

import pytest

from vlmprompt.cli import output
from vlmprompt.cli.progress import CliProgress, duration


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_come_every_five_seconds_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with CliProgress(bars=False, clock=clock).task("training", 40, unit="step") as task:
        for step in range(40):
            clock.now += 0.5
            task.advance(loss=1.0 / (step + 1), acc="81%")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "training: 10/40 step  loss 0.1  acc 81%  2 step/s  ETA 15.0 s",
        "training: 20/40 step  loss 0.05  acc 81%  2 step/s  ETA 10.0 s",
        "training: 30/40 step  loss 0.03333  acc 81%  2 step/s  ETA 5.0 s",
        "training: 40/40 step  loss 0.025  acc 81%  2 step/s  in 20.0 s",
    ]


def test_a_task_of_unknown_length(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with CliProgress(bars=False, clock=clock).task("reading", None, unit="file") as task:
        clock.now += 6
        task.advance(12)
        clock.now += 2
        task.advance(12)
    assert capsys.readouterr().err.splitlines() == [
        "reading: 12 file  2 file/s  in 6.0 s",
        "reading: 24 file  3 file/s  in 8.0 s",
    ]


def test_an_error_passes_through_without_a_closing_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), CliProgress(bars=False).task("training", 4):
        raise KeyError
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("bars", [False, True])
def test_messages_and_warnings_go_to_stderr(bars: bool, capsys: pytest.CaptureFixture[str]) -> None:
    document = output.begin()
    progress = CliProgress(bars=bars)
    with progress.task("outer", 2) as outer, progress.task("inner", 1) as inner:
        progress.message("hello")
        progress.warn("take care")
        inner.advance()
        outer.advance(2)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if line]
    assert lines[:2] == ["hello", "warning: take care"]
    assert lines[2].startswith("inner: 1/1 it")
    assert lines[3].startswith("outer: 2/2 it")
    assert document.warnings == ["take care"]


def test_a_warning_is_said_once_and_counted_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    document = output.begin()
    long = "the fit has not converged in as many steps as it was given, so that its numbers are not the best"
    for text in ("take care", long, "take care", "only once", "take care"):
        output.warn(text)
    output.warn(long)
    said = capsys.readouterr().err.splitlines()
    assert said == ["warning: take care", f"warning: {long}", "warning: only once"]
    output.count_repeated()
    assert capsys.readouterr().err.splitlines() == [
        "warning: 3 times: take care",
        f"warning: 2 times: {long[:60]}...",
    ]
    assert len(document.warnings) == 3


def test_bars_are_drawn_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    with CliProgress(bars=True).task("training", 4, unit="step") as task:
        task.advance(loss=0.25)
        print("a result")
        task.advance()
    captured = capsys.readouterr()
    assert captured.out == "a result\n"
    error = captured.err
    assert "━" in error
    assert "2/4" in error
    assert "loss 0.25" in error
    assert "training: 2/4 step" in error.splitlines()[-1]


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (187, "3:07"), (7387.4, "2:03:07")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text

"""A named pipe in place of any file that a command reads: one line that names it, and no waiting."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.training.material import make_photos
from vlmprompt.cli.main import main

pytestmark = [
    pytest.mark.usefixtures("tiny_spec"),
    pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes"),
]
TRAIN = (
    "train",
    "--method",
    "coop",
    "--data",
    "folder:photos",
    "--backbone",
    "tiny-vit",
    "--device",
    "cpu",
    "--shots",
    "1",
)
SMALL = ("--max-steps", "1", "--set", "n_ctx=2", "--workers", "0", "--out", "run")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "photos", splits={"train": 1, "test": 1})
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.toml")


def error(capsys: pytest.CaptureFixture[str], arguments: Sequence[str], code: int) -> str:
    assert main(arguments) == code
    text = capsys.readouterr().err
    assert "Traceback" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((*TRAIN, "--config", "pipe"), 2),
        ((*TRAIN, "--class-names", "pipe"), 3),
        ((*TRAIN, "--method", "descriptions", "--descriptions", "pipe"), 3),
        ((*TRAIN, "--data", "csv:pipe"), 3),
        ((*TRAIN, "--data", "wds:pipe"), 3),
        ((*TRAIN, "--backbone", "ViT-B-32/pipe", "--no-quick-gelu"), 3),
        (("data", "check", "csv:pipe"), 3),
        (("data", "show", "json:pipe"), 3),
        (("describe-classes", "--classes", "pipe", "--dry-run"), 3),
        (("describe-classes", "--classes", "pipe.toml", "--dry-run"), 3),
    ],
)
def test_is_named(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int) -> None:
    line = error(capsys, arguments, code)
    assert "pipe" in line and ("it is a named pipe, not a file" in line or "have problems: csv:pipe" in line)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("reproduce", "pipe.toml"), 2),
        (("import", "pipe", "--method", "gallop", "--data", "folder:photos", "--backbone", "tiny-vit"), 3),
        (("report", "pipe"), 3),
        (("evaluate", "pipe"), 3),
        (("describe-classes", "--data", "folder:photos", "--provider", "file", "--from", "pipe"), 3),
        (("data", "show", "folder:photos", "--class-names", "pipe"), 3),
    ],
)
def test_is_not_opened(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int) -> None:
    assert "pipe" in error(capsys, arguments, code)


@pytest.mark.parametrize("name", ["run.json", "checkpoint.safetensors"])
def test_within_a_run(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main([*TRAIN, *SMALL]) == 0
    capsys.readouterr()
    Path("run", name).unlink()
    os.mkfifo(Path("run", name))
    line = error(capsys, ["evaluate", "run", "--no-reference", "--device", "cpu", "--workers", "0"], 3)
    assert "named pipe, not a file" in line


def test_aliases(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, *SMALL]) == 0
    capsys.readouterr()
    line = error(capsys, ["evaluate", "run", "--aliases", "pipe", "--device", "cpu", "--workers", "0"], 3)
    assert "it is a named pipe, not a file" in line

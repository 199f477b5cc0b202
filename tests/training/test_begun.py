"""A folder knows the configuration of the run in it: `--out X --resume` alone goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.training.material import Hooked, config, log_lines, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.cli.main import main
from vlmprompt.config.models import RunConfig
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run

HERE = ["--device", "cpu", "--workers", "0"]


class Killed(BaseException):
    pass


def kill_at(step: int) -> None:
    if step == 4:
        raise Killed


@pytest.fixture
def settings(photos: Path) -> RunConfig:
    return config(photos, preset=None, seed=5, max_steps=7)


@pytest.fixture
def begun(settings: RunConfig, tiny_backbone: Backbone, tmp_path: Path) -> Path:
    """A run that was stopped in its fourth step."""
    out = tmp_path / "begun"
    sources = {"seed": "--seed", "train.epochs": "default", "train.lr": "override photos"}
    with pytest.raises(Killed):
        train(
            settings,
            runtime(tmp_path),
            out=out,
            progress=Hooked(kill_at),
            backbone=tiny_backbone,
            sources=sources,
        )
    return out


def error(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


@pytest.mark.usefixtures("tiny_spec")
def test_the_folder_alone_is_enough(
    begun: Path,
    settings: RunConfig,
    tiny_backbone: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = train(settings, runtime(tmp_path), out=tmp_path / "whole", backbone=tiny_backbone).run
    monkeypatch.setenv("VLMPROMPT_SHOTS", "2")  # of another day
    assert main(["train", "--out", str(begun), "--resume", *HERE]) == 0
    assert (begun / "checkpoint.safetensors").read_bytes() == (whole / "checkpoint.safetensors").read_bytes()
    assert log_lines(begun) == log_lines(whole)
    info = load_run(begun).info
    assert info.status == "finished" and info.config == settings
    assert (info.sources["seed"], info.sources["train.epochs"]) == ("--seed", "default")
    assert info.sources["train.lr"] == "override photos"
    capsys.readouterr()
    assert main(["train", "--out", str(begun), "--resume", *HERE]) == 0
    assert "is already done" in error(capsys)


@pytest.mark.usefixtures("tiny_spec")
def test_flags_that_agree_may_be_repeated(begun: Path, photos: Path, tmp_path: Path) -> None:
    toml = tmp_path / "run.toml"
    toml.write_text("shots = 3\n[options]\nn_ctx = 2\n[train]\nlr = 0.02\n")
    same = ["--method", "coop", "--data", f"folder:{photos}", "--seed", "5", "--set", "max_steps=7"]
    assert main(["train", "--out", str(begun), "--resume", *same, "--config", str(toml), *HERE]) == 0
    assert load_run(begun).info.sources["seed"] == "--seed"


@pytest.mark.parametrize(
    ("flags", "difference"),
    [
        (["--shots", "2"], "shots (3 -> 2)"),
        (["--set", "n_ctx=4"], "options.n_ctx (2 -> 4)"),
        (["--lr", "0.5", "--seed", "6"], "seed (5 -> 6), train.lr (0.02 -> 0.5)"),
        (["--backbone", "ViT-B-32"], "backbone ('tiny-vit' -> 'ViT-B-32')"),
        (["--method", "zeroshot"], "another configuration: method ('coop' -> 'zeroshot')\n"),
    ],
)
def test_flags_that_differ_are_named(
    flags: list[str], difference: str, begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (begun / "run.json").read_bytes()
    assert main(["train", "--out", str(begun), "--resume", *flags, *HERE]) == 3
    said = error(capsys)
    assert difference in said, said
    assert (begun / "run.json").read_bytes() == before


def test_where_there_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--out", str(tmp_path / "nowhere"), "--resume", *HERE]) == 3
    assert f"there is no run in {tmp_path / 'nowhere'} to go on with" in error(capsys)
    (tmp_path / "run.json").write_text("{")
    assert main(["train", "--out", str(tmp_path), "--resume", *HERE]) == 3
    assert "run.json is damaged" in error(capsys)
    assert main(["train", "--resume", *HERE]) == 2
    assert "no method given" in error(capsys)


@pytest.mark.usefixtures("tiny_spec")
def test_the_plan_can_be_looked_at_first(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--out", str(begun), "--resume", "--dry-run", "--json", *HERE]) == 0
    report = json.loads(capsys.readouterr().out)["data"]["dry_run"]
    assert (report["method"], report["plan"]["steps"]) == ("coop", 7)

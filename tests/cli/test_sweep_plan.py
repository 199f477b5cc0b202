"""`sweep --dry-run` and `--grid` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlmprompt.cli.main import main

SWEEP = ["sweep", "--method", "coop", "--method", "zeroshot", "--shots", "1", "--shots", "all", "--seed", "3"]
GRID = ["--grid", "lr=0.002,0.01", "--grid", "keep_underscores=true"]


def test_a_dry_run_lists_every_run_and_runs_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = tmp_path / "sweep/runs/coop-doodles-doodle-clip-1shot-seed3-lr=0.01-keep_underscores=true"
    assert main([*SWEEP, *GRID, "--dry-run", "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["data"]["dry_run"]["runs"]
    assert [(r["method"], r["shots"], r["seed"], r["settings"]["options.keep_underscores"]) for r in runs] == [
        *[("coop", 1, 3, "true"), ("coop", None, 3, "true")] * 2,
        ("zeroshot", None, 0, "true"),
    ]
    assert [r["settings"].get("train.lr") for r in runs] == ["0.002", "0.002", "0.01", "0.01", None]
    assert done.name == runs[2]["run"]
    assert not any(r["trained"] for r in runs)
    assert list(tmp_path.iterdir()) == []
    assert main([*SWEEP, *GRID, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "method", "data", "shots", "seed", "train.lr", "options.keep_underscores", "trained", "run"
    ]  # fmt: skip
    assert lines[-1] == f"5 runs in {Path('sweep/runs')}, 0 of them trained; nothing was run"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--grid", "n_ctx=4,16"], "method 'zeroshot' has no setting 'n_ctx' (--grid)"),
        (["--grid", "lr=0.1", "--lr", "0.2"], "lr is given by --grid and by --lr"),
        (["--grid", "lr=0.1", "--set", "train.lr=0.2"], "lr is given by --grid and by --set"),
        (["--grid", "lr=0.1", "--grid", "lr=0.2"], "--grid lr is given twice"),
        (["--grid", "epochs=1,none"], "train.epochs = none (--grid) is not allowed"),
        (["--grid", "backbone=doodle-clip,vit_b16"], "unknown architecture 'vit_b16'"),
        (["--grid", "device=cpu"], "'device' (--grid) is not part of a run's configuration"),
    ],
)
def test_a_wrong_grid_is_found_before_the_first_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*SWEEP, *args]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_values_that_only_a_grid_makes_whole(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schedule alone is not allowed: its milestones are in the grid."""
    monkeypatch.chdir(tmp_path)
    grid = ["--schedule", "step", "--grid", "milestones=[1,2],[3]", "--grid", "max_steps=9,none,null"]
    assert main(["sweep", "--method", "coop", "--shots", "1", *grid[:4], "--dry-run", "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["data"]["dry_run"]["runs"]
    assert [run["settings"] for run in runs] == [{"train.milestones": "[1, 2]"}, {"train.milestones": "[3]"}]
    assert main(["sweep", "--method", "coop", *grid, "--dry-run"]) == 2
    assert "-max_steps=none twice" in capsys.readouterr().err

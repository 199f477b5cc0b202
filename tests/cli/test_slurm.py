"""A sweep as a SLURM array: what the script says, and that a stand-in for sbatch gets it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vlmprompt.cli.main import main

SWEEP = ["sweep", "--method", "coop", "--shots", "1", "--shots", "2", "--seed", "3", "--backbone", "doodle-clip"]
SLURM = ["--slurm", "partition=gpu,time=2:00:00,gpus=1"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def stand_in_for_sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts an sbatch that does what it is told to do first on the PATH."""

    def put(does: str) -> None:
        stand_in = tmp_path / "bin/sbatch"
        stand_in.parent.mkdir()
        stand_in.write_text(f"#!/bin/sh\n{does}\n")
        stand_in.chmod(0o755)
        monkeypatch.setenv("PATH", str(stand_in.parent), prepend=os.pathsep)

    return put


def script_of(capsys: pytest.CaptureFixture[str], *args: str) -> list[str]:
    assert main([*SWEEP, *args, "--dry-run", "--json"]) == 0
    script: str = json.loads(capsys.readouterr().out)["data"]["script"]
    return script.splitlines()


def test_a_task_a_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lines = script_of(capsys, *SLURM, "--set", "ctx_init=a photo of a")
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines[1:8] == [
        "#SBATCH --job-name=vlmprompt-sweep",
        f"#SBATCH --chdir={tmp_path}",
        f"#SBATCH --output={Path('sweep/slurm/%A-%a.log')}",
        "#SBATCH --partition=gpu",
        "#SBATCH --time=2:00:00",
        "#SBATCH --gpus=1",
        "#SBATCH --array=1-2",
    ]
    command = shlex.split(lines[-1])
    assert command == [
        *["exec", sys.executable, "-m", "vlmprompt"],
        *[*SWEEP, "--set", "ctx_init=a photo of a", "--shard", "slurm"],
    ]
    assert list(tmp_path.iterdir()) == []


def test_fewer_tasks_and_workers(capsys: pytest.CaptureFixture[str]) -> None:
    lines = script_of(capsys, "--slurm=array=4%2,gres=gpu:1,tmp:10G", "--worker", "--out", "with blanks")
    assert '#SBATCH --output="with blanks/slurm/%A-%a.log"' in lines
    assert "#SBATCH --gres=gpu:1,tmp:10G" in lines
    assert "#SBATCH --array=1-4%2" in lines
    assert shlex.split(lines[-1])[4:] == [*SWEEP, "--out", "with blanks", "--worker"]


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing(tmp_path: Path) -> None:
    assert main([*SWEEP, *SLURM, "--set", "ctx_init=it's a photo"]) == 0
    subprocess.run(["shellcheck", tmp_path / "sweep/slurm/sweep.sh"], check=True)


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands in for sbatch")
def test_the_script_is_submitted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, stand_in_for_sbatch: Callable[[str], None]
) -> None:
    stand_in_for_sbatch('cp "$1" submitted\necho Submitted batch job 17')
    assert main([*SWEEP, *SLURM, "--submit"]) == 0
    assert capsys.readouterr().out == "Submitted batch job 17\n"
    script = tmp_path / "sweep/slurm/sweep.sh"
    assert (tmp_path / "submitted").read_bytes() == script.read_bytes()
    assert os.access(script, os.X_OK)


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands in for sbatch")
def test_what_sbatch_refuses_is_told(
    capsys: pytest.CaptureFixture[str], stand_in_for_sbatch: Callable[[str], None]
) -> None:
    stand_in_for_sbatch("echo invalid partition specified: gpu >&2\nexit 1")
    assert main([*SWEEP, *SLURM, "--submit"]) == 3
    assert "invalid partition specified: gpu" in capsys.readouterr().err


def test_without_sbatch_the_script_is_kept(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([*SWEEP, *SLURM, "--submit"]) == 3
    said = capsys.readouterr().err
    assert "there is no sbatch on the PATH" in said
    assert (tmp_path / "sweep/slurm/sweep.sh").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu", "'gpu' is not option=value of sbatch"),
        ("time=1,time=2", "names time twice"),
        ("partition=a b", "a value has no blanks"),
        ("partition=$(id)", "a value has no blanks, quotes or signs of the shell"),
        ("array=0", "array=0 is not a number of tasks"),
        ("array=1-4", "is not a number of tasks"),
    ],
)
def test_what_is_no_list_of_options(capsys: pytest.CaptureFixture[str], text: str, message: str) -> None:
    assert main([*SWEEP, "--slurm", text]) == 2
    assert message in capsys.readouterr().err


def test_parts_and_force_do_not_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SWEEP, "--shard", "1/2", "--force"]) == 2
    assert "--force has the folder of a sweep to itself" in capsys.readouterr().err

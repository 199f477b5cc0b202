"""A run folder has one owner: a second process is told who that is, and one that was taken for dead writes no more."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.material import STEPS, Hooked, config, log_lines, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.claims.claim import BusyError
from vlmprompt.claims.place import FOLDER
from vlmprompt.errors import Interrupted
from vlmprompt.training.folder import RunFolder
from vlmprompt.training.run import train
from vlmprompt.training.start import hold


@pytest.fixture
def go(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> Callable[..., Path]:
    """Trains in the folder `run`; `at` is called after each step."""

    def run(at: Callable[[int], None] = lambda step: None, **more: Any) -> Path:
        where = tmp_path / "run"
        more = {"out": where, "progress": Hooked(at), "backbone": tiny_backbone, **more}
        return train(config(photos), runtime(tmp_path), **more).run

    return run


def contents(run: Path) -> tuple[bytes, list[dict[str, Any]], str]:
    status = json.loads((run / "run.json").read_text())["status"]
    return (run / "checkpoint.safetensors").read_bytes(), log_lines(run), status


@pytest.mark.parametrize("how", [{}, {"resume": True}, {"resume": "maybe"}, {"force": True}])
def test_a_second_one_is_told_who_has_it_and_touches_nothing(go: Any, tmp_path: Path, how: dict[str, Any]) -> None:
    whole = contents(go(out=tmp_path / "whole"))
    seen: list[BusyError] = []

    def second(step: int) -> None:
        if step == 4:
            before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "run").iterdir()}
            with pytest.raises(BusyError) as error:
                go(**how)
            seen.append(error.value)
            after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "run").iterdir()}
            assert {**after, FOLDER: 0} == {**before, FOLDER: 0}

    assert contents(go(second)) == whole
    assert seen[0].message.startswith(f"run {tmp_path / 'run'} is in use by process {os.getpid()} on ")
    assert seen[0].exit_code == 3
    assert not (tmp_path / "run" / FOLDER).exists()


def test_a_folder_that_is_held_before_there_is_a_run_is_busy_too(go: Any, tmp_path: Path) -> None:
    with hold(RunFolder(tmp_path / "run")), pytest.raises(BusyError):
        go()
    go()


def test_one_that_stood_still_finds_its_run_taken_over(go: Any, tmp_path: Path) -> None:
    """It stops before its next write; the other one went on from the checkpoint, and nothing is lost."""
    whole = contents(go(out=tmp_path / "whole"))

    def sleep(step: int) -> None:
        if step == 5:
            (file,) = (tmp_path / "run" / FOLDER / "run").iterdir()
            os.utime(file, (1e9, 1e9))
            go(resume=True)  # the other process

    with pytest.raises(BusyError, match=r"was taken over by another process, .*writes no more there"):
        go(sleep)
    assert contents(tmp_path / "run") == whole
    assert not (tmp_path / "run" / FOLDER).exists()


def test_a_finished_run_needs_no_owner(go: Any, tmp_path: Path) -> None:
    """It may lie in a folder that is read-only, or be looked at by many."""
    run = go()
    with hold(RunFolder(run)):
        progress = Hooked()
        assert go(progress=progress) == run
    assert progress.steps == 0


def test_maybe_resumes_what_is_there_and_is_silent_where_nothing_is(go: Any, tmp_path: Path) -> None:
    def stop(step: int) -> None:
        if step == 3:
            os.kill(os.getpid(), 2)

    first = Hooked(stop)
    with pytest.raises(Interrupted):
        go(progress=first, resume="maybe")
    assert not any("nothing to resume" in text for text in first.messages)
    rest = Hooked()
    go(progress=rest, resume="maybe")
    assert (first.steps, rest.steps) == (3, STEPS - 3)


def test_what_a_process_leaves_that_was_killed_before_its_first_file_was_whole_is_nothing(
    go: Any, tmp_path: Path
) -> None:
    whole = contents(go())
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "run" / FOLDER / "run").mkdir(parents=True)
    (tmp_path / "run" / ".0123456789abcdef.vlmprompt-part").write_bytes(bytes(9))
    assert contents(go()) == whole
    assert not [p for p in (tmp_path / "run").iterdir() if p.name.startswith(".")]

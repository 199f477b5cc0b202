"""A sweep in parts and by workers: everything once, and what others have is left to them and shown."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.evaluation.sweep_tiny import SETS, resolver
from tests.training.material import Hooked, Noisy, registered, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.claims.claim import claim
from vlmprompt.claims.place import STALE_S
from vlmprompt.errors import InputError
from vlmprompt.evaluation.grid import Grid
from vlmprompt.evaluation.shard import Shard
from vlmprompt.evaluation.status import GridStatus, grid_status
from vlmprompt.evaluation.sweep import sweep
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import ResultStore
from vlmprompt.training.run_info import RunInfo

NAMES = [f"noisy-photos-tiny-vit-{shots}shot-seed{seed}" for seed in (1, 2) for shots in (1, 2)]


@pytest.fixture(scope="module", autouse=True)
def _noisy(tiny_backbone: Backbone) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, registered("noisy", Noisy):
        patch.setattr("vlmprompt.evaluation.resources.load_backbone", lambda spec, **more: tiny_backbone)
        yield


def grid(photos: Path, *methods: str) -> Grid:
    return Grid(methods=methods or ["noisy"], datasets=[f"folder:{photos}"], shots=[1, 2], seeds=[1, 2])


def run(
    photos: Path, out: Path, *, shard: Shard | None = None, worker: bool = False, suite: str = "accuracy"
) -> list[ResultRow]:
    where = runtime(out.parent / "unused")
    return sweep(
        grid(photos),
        resolver(*SETS),
        [suite],
        where,
        out=out,
        reference=False,
        shard=shard,
        worker=worker,
        progress=Hooked(),
    )


def status(photos: Path, out: Path, *methods: str, suite: str = "accuracy") -> GridStatus:
    return grid_status(grid(photos, *methods), resolver(*SETS), [suite], out)


def states(found: GridStatus) -> list[tuple[str, str]]:
    return [(one.name, one.state) for one in found.runs]


@pytest.fixture(scope="module")
def whole(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep in one piece."""
    out = tmp_path_factory.mktemp("whole") / "sweep"
    run(photos, out)
    return out


def numbers(*outs: Path) -> list[tuple[str, str, float | None]]:
    rows = [row for out in outs for row in ResultStore(out / "results.jsonl").read().rows]
    return sorted((row.run, row.metric, row.value) for row in rows)


def test_parts_on_machines_of_their_own_are_the_whole(photos: Path, whole: Path, tmp_path: Path) -> None:
    outs = [tmp_path / str(index) for index in (1, 2, 3)]
    for index, out in enumerate(outs, 1):
        run(photos, out, shard=Shard(index, 3))
    assert [len(list((out / "runs").iterdir())) for out in outs] == [2, 1, 1]
    assert numbers(*outs) == numbers(whole)


def test_runs_that_differ_in_shots_stay_together_for_a_curve(photos: Path, tmp_path: Path) -> None:
    rows = run(photos, tmp_path / "sweep", shard=Shard(2, 2), suite="few-shot")
    assert sorted(one.name for one in (tmp_path / "sweep/runs").iterdir()) == NAMES[2:]
    assert {row.cell for row in rows if row.status == "ok"} == {"1-shot", "2-shot"}


def test_more_parts_than_runs(photos: Path, tmp_path: Path) -> None:
    progress = Hooked()
    where = runtime(tmp_path / "unused")
    rows = sweep(
        grid(photos), resolver(*SETS), ["accuracy"], where, out=tmp_path / "s", shard=Shard(5, 7), progress=progress
    )
    assert rows == []
    assert "part 5 of 7 of the grid holds no run: there are more parts than runs" in progress.messages


def test_a_worker_leaves_to_others_what_they_have(photos: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    with claim(out, f"train {NAMES[1]}", f"training of {NAMES[1]}"):
        rows = run(photos, out, worker=True)
        assert states(status(photos, out)) == [
            (NAMES[0], "trained"),  # measured with the others of its group, which is not trained
            (NAMES[1], "training"),
            (NAMES[2], "done"),
            (NAMES[3], "done"),
        ]
    assert {row.run for row in rows} == set(NAMES[2:])
    run(photos, out, worker=True)  # the other has given it up, or died
    assert numbers(out) == numbers(whole)


def test_how_far_a_sweep_has_come(photos: Path, whole: Path, tmp_path: Path) -> None:
    assert states(status(photos, tmp_path / "nothing")) == [(name, "open") for name in NAMES]
    found = status(photos, whole)
    assert states(found) == [(name, "done") for name in NAMES]
    assert found.counts == {"done": 4}
    assert found.training_left_s is None
    assert states(status(photos, whole, suite="few-shot")) == [(name, "trained") for name in NAMES]


def test_who_is_at_work_who_is_dead_and_what_is_left(photos: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    shutil.copytree(whole, out)
    shutil.rmtree(out / "runs" / NAMES[0])
    for name, seconds in ((NAMES[1], 30.0), (NAMES[2], 50.0), (NAMES[3], 40.0)):
        info = RunInfo.read(out / "runs" / name)
        info.model_copy(update={"seconds": seconds}).write(out / "runs" / name)
    (out / "results.jsonl").unlink()
    with (
        claim(out, f"train {NAMES[0]}", "training") as alive,
        claim(out, f"measure {NAMES[1]}", "measuring") as dead,
        claim(out, f"measure {NAMES[2]}", "measuring"),
    ):
        old = dead.file.stat().st_mtime - STALE_S - 60
        os.utime(dead.file, (old, old))
        found = status(photos, out)
        assert states(found) == [
            (NAMES[0], "training"),
            (NAMES[1], "stale"),
            (NAMES[2], "measuring"),
            (NAMES[3], "trained"),
        ]
        assert found.runs[0].who == str(alive.owner)
        assert found.training_left_s == pytest.approx((30 + 50 + 40) / 3 / found.workers)


def test_why_a_run_failed(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(self: Noisy, epoch: int, epochs: int) -> None:
        raise InputError("out of luck")

    monkeypatch.setattr(Noisy, "start_epoch", explode)
    out = tmp_path / "sweep"
    run(photos, out)
    assert [(one.state, one.note) for one in status(photos, out).runs] == [("failed", "out of luck")] * 4


def test_a_run_of_other_versions_is_named(photos: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    shutil.copytree(whole, out)
    info = RunInfo.read(out / "runs" / NAMES[3])
    versions = info.versions | {"torch": "0.1"}
    info.model_copy(update={"versions": versions}).write(out / "runs" / NAMES[3])
    notes = [one.note for one in status(photos, out).runs]
    assert notes == ["", "", "", f"trained with torch 0.1, not {info.versions['torch']}"]

"""A sweep over settings: a run for each combination, rows of each told apart, and more values later."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.sweep_tiny import SETS
from tests.evaluation.test_sweep import towers_from_memory
from tests.training.material import Hooked, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.grid import combinations, layer_of
from vlmprompt.config.resolve import Resolved, resolve
from vlmprompt.errors import UsageError
from vlmprompt.evaluation.grid import Grid, jobs
from vlmprompt.evaluation.sweep import sweep
from vlmprompt.results.reporters import TerminalReporter
from vlmprompt.results.rows import ResultRow

NAME = "noisy-photos-tiny-vit-1shot-seed1"


@pytest.fixture
def towers(tiny_backbone: Backbone) -> Iterator[None]:
    """Towers and method of the sweep."""
    with towers_from_memory(tiny_backbone):
        yield


def resolver(*, combination: dict[str, Any] | None = None, **flags: Any) -> Resolved:
    """As the command line does."""
    sets = [s for s in SETS if flags["method"] == "noisy" and s.partition("=")[0] not in (combination or {})]
    layers = [layer_of(combination)] if combination else []
    return resolve({"backbone": "tiny-vit", **flags}, sets=sets, more=layers, env={})


def grid_of(photos: Path, *assignments: str, methods: tuple[str, ...] = ("noisy",)) -> Grid:
    return Grid(methods, [f"folder:{photos}"], [1], [1], combinations=combinations(assignments))


def run(grid: Grid, out: Path, progress: Hooked) -> list[ResultRow]:
    where = runtime(out.parent / "unused")
    return sweep(grid, resolver, ["accuracy"], where, out=out, reference=False, progress=progress)


def test_each_combination_has_a_run_and_rows_of_its_own(photos: Path, tmp_path: Path, towers: None) -> None:
    out = tmp_path / "sweep"
    rows = run(grid_of(photos, "n_ctx=2,3", "epochs=1,2"), out, Hooked())
    folders = [f"{NAME}-n_ctx={n}-epochs={e}" for n in (2, 3) for e in (1, 2)]
    assert sorted(folder.name for folder in (out / "runs").iterdir()) == folders
    steps = [json.loads((out / "runs" / name / "run.json").read_text())["steps"] for name in folders]
    assert steps == [1, 2, 1, 2]  # one an epoch: 4 images, 4 at once
    assert [(r.run, r.setup["options.n_ctx"], r.setup["train.epochs"]) for r in rows if r.metric == "top1"] == [
        (name, name.split("n_ctx=")[1][0], name[-1]) for name in folders
    ]
    table = TerminalReporter().render(rows, width=200).splitlines()
    assert table[1].split()[:4] == ["method", "shots", "epochs", "n_ctx"]
    assert [line.split()[:4] for line in table[3:7]] == [["noisy", "1", str(e), str(n)] for n in (2, 3) for e in (1, 2)]


def test_more_values_later_train_what_is_new(photos: Path, tmp_path: Path, towers: None) -> None:
    first = run(grid_of(photos, "epochs=1,2"), tmp_path / "sweep", Hooked())
    progress = Hooked()
    rows = run(grid_of(photos, "epochs=1,2,4"), tmp_path / "sweep", progress)
    there = [message.split(" is already done")[0][-8:] for message in progress.messages if "already done" in message]
    assert sorted(there) == ["epochs=1", "epochs=2"]
    assert len(list((tmp_path / "sweep" / "runs").iterdir())) == 3
    assert rows[: len(first)] == first


def test_what_learns_nothing_is_not_run_for_each_learning_rate(photos: Path, tmp_path: Path, towers: None) -> None:
    groups = jobs(grid_of(photos, "lr=0.1,0.2", methods=("noisy", "zeroshot")), resolver, tmp_path)
    names = [job.folder.name for group in groups for job in group]
    assert names == [f"{NAME}-lr=0.1", f"{NAME}-lr=0.2", "zeroshot-photos-tiny-vit-allshots-seed0"]


def test_one_value_written_in_two_ways_is_found_before_anything_runs(
    photos: Path, tmp_path: Path, towers: None
) -> None:
    with pytest.raises(UsageError, match=f"the grid has run {NAME}-lr=0.01 twice"):
        jobs(grid_of(photos, "lr=0.01,1e-2"), resolver, tmp_path)


def test_one_run_is_not_counted_twice(photos: Path, tmp_path: Path, towers: None) -> None:
    with pytest.raises(UsageError, match=f"the grid has run {NAME} twice") as error:
        jobs(Grid(["noisy"], [f"folder:{photos}"], [1], [1, 1]), resolver, tmp_path)
    assert "seed" in (error.value.hint or "")

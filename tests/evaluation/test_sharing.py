"""Several processes in one folder: every run is trained once, every number measured once, and all see the same."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.material import Scripted, gives
from tests.evaluation.sweep_tiny import SETS, resolver, run_sweep
from tests.training.material import Exploding, Hooked, Noisy, log_lines, registered, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.claims.claim import BusyError, claim
from vlmprompt.claims.place import FOLDER
from vlmprompt.evaluation.contract import MetricValue
from vlmprompt.evaluation.executors.tasks import Plan
from vlmprompt.evaluation.grid import Grid, jobs
from vlmprompt.evaluation.resources import Resources
from vlmprompt.evaluation.runner import RESULTS_FILE, evaluate
from vlmprompt.evaluation.subjects import References, reference_config
from vlmprompt.evaluation.sweep_work import SweepWork
from vlmprompt.results.ledger import Ledger
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import ResultStore
from vlmprompt.training.runs import load_run


@pytest.fixture(autouse=True)
def _towers(tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Towers come from memory, and the slow method is known."""
    monkeypatch.setattr("vlmprompt.evaluation.resources.load_backbone", lambda *args, **more: tiny_backbone)
    with registered("noisy", Noisy):
        yield


class Telling(Hooked):
    """Says when it waits."""

    def __init__(self, waits: Callable[[], object], after_step: Callable[[int], None] = lambda step: None) -> None:
        super().__init__(after_step)
        self.waits = waits

    def message(self, text: str) -> None:
        super().message(text)
        if text.startswith("waiting for "):
            self.waits()


def without_runs(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """A reference stands beside whichever run came first."""
    return sorted((row.model_copy(update={"run": "", "note": ""}) for row in rows), key=repr)


def test_three_processes_one_killed_in_the_middle(photos: Path, tmp_path: Path) -> None:
    """It dies in the last step of a run while both others wait for it: one of them goes on from its checkpoint."""
    out, whole = tmp_path / "sweep", tmp_path / "whole"
    context = multiprocessing.get_context("fork")
    reached, waited = context.Event(), context.Semaphore(0)
    found = context.Queue()

    def die(step: int) -> None:
        if step == 3:
            reached.set()
            waited.acquire()
            waited.acquire()
            os.kill(os.getpid(), signal.SIGKILL)

    def live() -> None:
        reached.wait()
        progress = Telling(waited.release)
        rows = run_sweep(photos, out, progress, seeds=[1])
        found.put((rows, progress.steps))

    victim = context.Process(target=run_sweep, args=(photos, out, Hooked(die)), kwargs={"seeds": [1]})
    others = [context.Process(target=live) for _ in range(2)]
    for process in (victim, *others):
        process.start()
    (rows, steps), (same, more) = found.get(timeout=300), found.get(timeout=300)
    for process in (victim, *others):
        process.join(timeout=300)
    assert victim.exitcode == -signal.SIGKILL
    assert rows == same
    assert steps + more == (3 + 6) - 2  # of 1 and 2 shots; two of them were in the checkpoint

    expected = run_sweep(photos, whole, Hooked(), seeds=[1])
    assert without_runs(rows) == without_runs(expected)
    stored = [line for line in (out / RESULTS_FILE).read_bytes().splitlines() if line]
    assert len(stored) == len(set(stored)) == len(ResultStore(out / RESULTS_FILE).read().rows) == len(expected)
    runs = sorted(p.name for p in (whole / "runs").iterdir())
    assert sorted(p.name for p in (out / "runs").iterdir()) == runs
    for name in runs:
        assert log_lines(out / "runs" / name) == log_lines(whole / "runs" / name)
        ours, theirs = (root / "runs" / name / "checkpoint.safetensors" for root in (out, whole))
        assert ours.read_bytes() == theirs.read_bytes()
    assert not list(out.rglob(FOLDER))


# -- cells of one run ----------------------------------------------------------------------------------
def test_each_cell_is_measured_by_one(photos: Path, tmp_path: Path, trained: Path, scripted: type[Scripted]) -> None:
    """While the first measures its first cell, another process measures all that is free."""
    inner: list[BusyError] = []
    where = {"reference": False, "references_dir": tmp_path / "references"}
    results = tmp_path / "results"

    def ledger() -> Any:
        return Ledger(ResultStore(results / RESULTS_FILE))

    def first() -> Sequence[MetricValue]:
        if not inner:
            with pytest.raises(BusyError, match="scripted a of coop beside ") as busy:
                evaluate(trained, ["scripted"], runtime(tmp_path), patient=False, ledger=ledger(), **where)
            inner.append(busy.value)
        return [MetricValue("top1", 0.1, 10)]

    scripted.cells_by_name = {"a": first, "b": gives(0.2), "c": gives(0.3)}
    rows = evaluate(trained, ["scripted"], runtime(tmp_path), ledger=ledger(), **where)
    assert Counter(scripted.runs) == {"coop a": 1, "coop b": 1, "coop c": 1}
    assert [(r.cell, r.value) for r in rows] == [("a", 0.1), ("b", 0.2), ("c", 0.3)]
    assert len((results / RESULTS_FILE).read_bytes().splitlines()) == 3


def test_a_process_that_stood_still_does_not_store_what_another_has_measured(
    tmp_path: Path, trained: Path, scripted: type[Scripted]
) -> None:
    results = tmp_path / "results"
    again: list[int] = []

    def measure(**more: Any) -> list[ResultRow]:
        ledger = Ledger(ResultStore(results / RESULTS_FILE))
        return evaluate(trained, ["scripted"], runtime(tmp_path), reference=False, ledger=ledger, **more)

    def slow() -> Sequence[MetricValue]:
        again.append(1)
        if len(again) == 1:
            (file,) = [p for p in (results / FOLDER).rglob("*") if p.is_file()]
            os.utime(file, (1e9, 1e9))  # taken for dead
            measure()
        return [MetricValue("top1", 0.5, 10)]

    scripted.cells_by_name = {"a": slow}
    assert [r.value for r in measure()] == [0.5]
    assert len(again) == 2
    assert len((results / RESULTS_FILE).read_bytes().splitlines()) == 1


# -- references, failures, force -----------------------------------------------------------------------
def test_a_reference_that_another_process_trains_is_no_failure(photos: Path, tmp_path: Path, trained: Path) -> None:
    references = tmp_path / "references"
    config = reference_config("zeroshot", load_run(trained).config)
    resources = Resources(runtime(tmp_path), Hooked())
    kept = References(references, resources)
    kept._method(config, "data", None)
    (path,) = references.iterdir()
    where = {"references_dir": tmp_path / "more", "reference": ["zeroshot"], "resources": resources}
    ledger = Ledger(ResultStore(tmp_path / RESULTS_FILE))
    with (
        claim(tmp_path / "more", path.name, "reference"),
        pytest.raises(BusyError, match=f"reference .*{path.name} is in use"),
    ):
        evaluate(trained, ["accuracy"], runtime(tmp_path), patient=False, ledger=ledger, **where)
    assert {r.method for r in ResultStore(tmp_path / RESULTS_FILE).read().rows} == {"coop"}
    rows = evaluate(trained, ["accuracy"], runtime(tmp_path), patient=False, ledger=ledger, **where)
    assert {(r.method, r.status) for r in rows} == {("coop", "ok"), ("zeroshot", "ok")}


def test_a_training_that_failed_elsewhere_meanwhile_is_not_tried_once_more(photos: Path, tmp_path: Path) -> None:
    progress = Hooked()
    with registered("exploding", Exploding):
        grid = Grid(["exploding"], [f"folder:{photos}"], [2], [1])
        groups = jobs(grid, resolver(*SETS), tmp_path / "sweep" / "runs")
        resources = Resources(runtime(tmp_path), progress)
        plan = Plan(tmp_path, tmp_path / "sweep", resources.runtime, ["accuracy"], (), worker=False, measured_on={})
        both = [SweepWork(plan, resources, force=False) for _ in range(2)]
        found = []
        for work in both:
            for step in work.steps(groups):
                step.act(step.job)
            found.append(work.rows(groups))
    assert found[0] == found[1]
    assert [(r.cell, r.status) for r in found[0]] == [("*", "failed")]
    assert progress.steps == 4  # the loss is NaN in the fifth
    assert len(ResultStore(tmp_path / "sweep" / RESULTS_FILE).path.read_bytes().splitlines()) == 1


def test_force_waits_until_nobody_is_at_work(
    photos: Path, tmp_path: Path, trained: Path, scripted: type[Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whoever comes meanwhile waits for it."""
    scripted.cells_by_name = {"a": gives(0.2)}
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    told: list[str] = []
    with claim(run / "references" / "x", "run", "run x") as other:

        def end(seconds: float) -> None:
            told.extend(progress.messages)
            other.release()

        monkeypatch.setattr("vlmprompt.claims.work.time.sleep", end)
        progress = Hooked()
        evaluate(run, ["scripted"], runtime(tmp_path), reference=False, force=True, progress=progress)
    assert told[0].startswith(f"waiting for work in {run}: process {os.getpid()} on ")

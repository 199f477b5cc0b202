"""Runs carried out by workers: the same rows and bytes as in one process, whatever happens to a worker."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.sweep_tiny import SETS, resolver
from tests.evaluation.worker_tiny import Start
from tests.training.material import Breaking, Exploding, Hooked, Noisy, registered, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.claims.place import FOLDER
from vlmprompt.cli.main import main
from vlmprompt.errors import InputError, Interrupted, PluginError, UsageError
from vlmprompt.evaluation.executors import local
from vlmprompt.evaluation.executors.children import surroundings
from vlmprompt.evaluation.executors.contract import Executor, ExecutorConfig, SweepTask
from vlmprompt.evaluation.executors.local import LocalExecutor, threads_each
from vlmprompt.evaluation.executors.local_config import LocalConfig
from vlmprompt.evaluation.executors.options import executor_config, make_executor, read_settings
from vlmprompt.evaluation.executors.told import Relayed, Retold, briefly
from vlmprompt.evaluation.grid import Grid
from vlmprompt.evaluation.runner import RESULTS_FILE
from vlmprompt.evaluation.sweep import sweep
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import ResultStore


@pytest.fixture(autouse=True)
def _towers(tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlmprompt.evaluation.resources.load_backbone", lambda *args, **more: tiny_backbone)


def run(
    photos: Path, out: Path, executor: Executor | None = None, progress: Hooked | None = None, **grid: Any
) -> list[ResultRow]:
    axes: dict[str, Any] = {"methods": ["noisy"], "datasets": [f"folder:{photos}"], "shots": [1, 2], "seeds": [1]}
    return sweep(
        Grid(**axes | grid),
        resolver(*SETS),
        ["accuracy"],
        runtime(out.parent / "unused"),
        out=out,
        executor=executor,
        progress=progress or Hooked(),
    )


def told(rows: list[ResultRow]) -> list[str]:
    """Rows of two folders; a reference stands beside whichever run came first there."""
    return sorted(json.dumps(row.model_dump(mode="json") | {"run": "", "note": ""}, sort_keys=True) for row in rows)


def checkpoints(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.glob("runs/*/*.safetensors")}


def require_same(rows: list[ResultRow], out: Path, expected: list[ResultRow], whole: Path) -> None:
    """The same numbers and checkpoints, each row once, and no claim left."""
    assert [(row.method, row.seed, row.shots, row.metric, row.value) for row in rows] == [
        (row.method, row.seed, row.shots, row.metric, row.value) for row in expected
    ]
    assert checkpoints(out) == checkpoints(whole) != {}
    lines = (out / RESULTS_FILE).read_bytes().splitlines()
    assert len(lines) == len(set(lines)) == len(ResultStore(out / RESULTS_FILE).read().rows) == len(expected)
    assert not list(out.rglob(FOLDER))


def test_two_workers_give_what_one_process_gives(photos: Path, tmp_path: Path) -> None:
    out, whole, start = tmp_path / "sweep", tmp_path / "whole", Start()
    progress = Hooked()
    with registered("noisy", Noisy):
        with LocalExecutor(LocalConfig(jobs=2), start=start) as executor:
            rows = run(photos, out, executor, progress, seeds=[1, 2])
            again = run(photos, out, executor, seeds=[1, 2])
        expected = run(photos, whole, seeds=[1, 2])
    require_same(rows, out, expected, whole)
    assert again == rows
    assert len(start.workers) == 2  # for both sweeps
    said = [text for text in progress.messages if text.startswith("2shot-seed2: ")]
    assert any("computing features" in text for text in progress.messages)
    assert said


def test_a_killed_worker_is_replaced_and_its_run_resumed(photos: Path, tmp_path: Path) -> None:
    out, whole, progress = tmp_path / "sweep", tmp_path / "whole", Hooked()
    start = Start("breaking", deadly=tmp_path / "killed")
    with registered("breaking", Breaking):
        with LocalExecutor(LocalConfig(jobs=2), start=start) as executor:
            rows = run(photos, out, executor, progress, methods=["breaking"])
        expected = run(photos, whole, methods=["breaking"])
    require_same(rows, out, expected, whole)
    assert len(start.workers) in (2, 3)  # the other one takes over if it is free by then
    said = "was killed by SIGKILL; another goes on with breaking-photos-tiny-vit-"
    assert sum(said in text for text in progress.warnings) == 1, progress.warnings


def test_a_run_that_kills_every_worker_is_given_up(photos: Path, tmp_path: Path) -> None:
    start = Start("breaking", deadly=tmp_path / "nowhere" / "killed")
    with registered("breaking", Breaking), LocalExecutor(LocalConfig(jobs=1), start=start) as executor:
        rows = run(photos, tmp_path / "sweep", executor, methods=["breaking", "zeroshot"], shots=[1])
    assert len(start.workers) == 4
    assert {row.method for row in rows if row.status == "ok"} >= {"zeroshot"}
    (failed,) = [row for row in rows if row.status == "failed"]
    assert failed.method == "breaking"
    assert failed.note.startswith("3 workers ended while they were at it; the last was killed by SIGKILL")
    assert failed in ResultStore(tmp_path / "sweep" / RESULTS_FILE).read().rows


def test_a_failing_run_is_its_rows(photos: Path, tmp_path: Path) -> None:
    progress = Hooked()
    with registered("exploding", Exploding), LocalExecutor(LocalConfig(jobs=2), start=Start("exploding")) as executor:
        rows = run(photos, tmp_path / "s", executor, progress, methods=["exploding", "zeroshot"], shots=[2])
    (failed,) = [row for row in rows if row.status == "failed"]
    assert "the loss is nan at step 5" in failed.note
    assert {row.method for row in rows if row.status == "ok"} == {"zeroshot", "linear_probe"}
    assert [text for text in progress.warnings if "failed: " in text]


class Interrupting(Hooked):
    """Presses Ctrl-C when the first worker has trained a step."""

    @contextmanager
    def task(self, description: str, total: int | None, *, unit: str = "it") -> Iterator[Any]:
        self._training = description.endswith(": training")
        yield self

    def advance(self, amount: int = 1, **fields: float | str) -> None:
        if self._training:
            self._training = False
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_stops_all_and_the_same_command_goes_on(photos: Path, tmp_path: Path) -> None:
    out, whole, start = tmp_path / "sweep", tmp_path / "whole", Start()
    with registered("noisy", Noisy):
        with (
            LocalExecutor(LocalConfig(jobs=2), start=start) as executor,
            pytest.raises(Interrupted, match="is kept in"),
        ):
            run(photos, out, executor, Interrupting())
        assert {worker.wait() for worker in start.workers} <= {128 + signal.SIGTERM, -signal.SIGTERM}
        assert not list(out.rglob(FOLDER))
        with LocalExecutor(LocalConfig(jobs=2), start=Start()) as executor:
            rows = run(photos, out, executor)
        require_same(rows, out, run(photos, whole), whole)


def test_a_real_process_says_what_it_lacks_and_what_it_prints_is_told(tmp_path: Path) -> None:
    plan = {
        "cwd": str(tmp_path),
        "out": str(tmp_path / "nowhere"),
        "runtime": {"device": "cpu"},
        "suites": ["accuracy"],
        "references": [],
        "worker": False,
        "measured_on": {},
    }
    task = SweepTask("coop", {"plan": plan, "runs": []})
    with LocalExecutor(LocalConfig(jobs=1)) as executor:
        ((done, outcome),) = executor.run([task], Hooked())
    assert done is task
    assert outcome.refused is not None
    assert outcome.refused[0].endswith(f"does not have the folder {tmp_path / 'nowhere'}")


def test_a_process_that_cannot_begin_ends_the_sweep(photos: Path, tmp_path: Path) -> None:
    def start(environment: Mapping[str, str]) -> Any:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            ["sh", "-c", "echo no torch here >&2; exit 7"], stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )

    said = "cannot work: it ended with exit code 7; its last words: no torch here"
    executor = LocalExecutor(LocalConfig(jobs=1), start=start)
    with registered("noisy", Noisy), executor, pytest.raises(InputError, match=said):
        run(photos, tmp_path / "sweep", executor)


def test_workers_share_threads_and_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    assert [threads_each(jobs) for jobs in (1, 3, 16)] == [8, 2, 1]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    task = {device: SweepTask("x", {"plan": {"runtime": {"device": device}}}) for device in ("auto", "cuda:1")}
    assert local.cuda_devices([task["auto"]]) == ["0", "1", "2"]
    assert local.cuda_devices([task["auto"], task["cuda:1"]]) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-a,7")
    assert local.cuda_devices([task["auto"]]) == ["5", "GPU-a", "7"]
    seen = [surroundings(number, ["5", "GPU-a"], 2) for number in range(3)]
    assert [env["CUDA_VISIBLE_DEVICES"] for env in seen] == ["5", "GPU-a", "5"]
    assert {env["OMP_NUM_THREADS"] for env in seen} == {"2"}
    assert surroundings(0, ["5"], 2)["CUDA_VISIBLE_DEVICES"] == "5,GPU-a,7"


def test_progress_over_a_pipe_is_the_same_progress() -> None:
    events: list[Any] = []
    relayed, progress = Relayed(events.append), Hooked()
    relayed.message("hello")
    relayed.warn("careful")
    with relayed.task("training", 3, unit="step") as task:
        task.advance(2, loss=0.5)
    retold = Retold(progress, "run-1")
    for event in json.loads(json.dumps(events)):
        retold.tell(event)
    assert progress.messages == ["run-1: hello"]
    assert progress.warnings == ["run-1: careful"]
    assert progress.fields == {"loss": 0.5}


class Forgetful(Executor):
    """Does nothing."""

    def run(self, tasks: Any, progress: Any) -> Any:
        yield from ()


def test_lines_begin_with_what_tells_runs_apart() -> None:
    names = ["coop-doodles-16shot-seed1", "gallop-doodles-16shot-seed1", "coop-doodles-16shot-seed2"]
    assert briefly(names) == dict(zip(names, ["coop-seed1", "gallop-seed1", "coop-seed2"], strict=True))
    assert briefly(names[:1]) == {names[0]: names[0]} and briefly([]) == {}
    assert briefly(["a-b", "b-a", "a-b-c"]) == {name: name for name in ("a-b", "b-a", "a-b-c")}


def test_an_executor_that_forgets_tasks_is_blamed(photos: Path, tmp_path: Path) -> None:
    with registered("noisy", Noisy), pytest.raises(PluginError, match="Forgetful ended without 2 of its tasks"):
        run(photos, tmp_path / "sweep", Forgetful(ExecutorConfig()))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: make_executor("locl"), "unknown executor 'locl'"),
        (lambda: executor_config("local", {"job": 2}), "executor 'local' has no option 'job'"),
        (lambda: executor_config("local", {"jobs": 0}), "option jobs = 0 of executor 'local' is not allowed"),
        (lambda: read_settings("local", ["jobs"]), "--executor-set 'jobs' is not OPTION=VALUE"),
    ],
)
def test_slips(act: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        act()
    assert read_settings("local", ["jobs=3"]) == {"jobs": 3}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--jobs", "2", "--force"], "--force has the folder of a sweep to itself"),
        (["--executor-set", "jobs=2"], "--executor-set jobs=2 without --executor"),
        (["--executor", "ray2"], "unknown executor 'ray2'"),
        (["--jobs", "0"], "option jobs = 0"),
    ],
)
def test_slips_on_the_command_line(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["sweep", "--method", "coop", "--out", str(tmp_path / "s"), *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "s").exists()

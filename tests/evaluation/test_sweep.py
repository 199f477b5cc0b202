"""The sweep: everything once, failures apart, and stopped anywhere it goes on as if it had not been."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation import sweep_tiny
from tests.evaluation.material import accuracies
from tests.evaluation.sweep_tiny import SETS, resolver, run_sweep
from tests.processes import Process, Stepwise
from tests.training.material import Exploding, Hooked, Noisy, registered, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.data.load import short_names
from vlmprompt.errors import Interrupted, UsageError
from vlmprompt.evaluation.failures import incomplete
from vlmprompt.evaluation.grid import Grid
from vlmprompt.evaluation.sweep import sweep
from vlmprompt.evaluation.sweep_work import SweepWork
from vlmprompt.plugins import host
from vlmprompt.registry import Source
from vlmprompt.results.reporters import TerminalReporter
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import ResultStore, current


@contextmanager
def towers_from_memory(backbone: Backbone) -> Iterator[list[str]]:
    """Notes what was loaded. The method of sweeps is known."""
    loaded: list[str] = []

    def load(spec: str, **more: Any) -> Backbone:
        loaded.append(spec)
        return backbone

    with pytest.MonkeyPatch.context() as patch, registered("noisy", Noisy):
        patch.setattr("vlmprompt.evaluation.resources.load_backbone", load)
        yield loaded


@pytest.fixture
def loads(tiny_backbone: Backbone) -> Iterator[list[str]]:
    """What was loaded."""
    with towers_from_memory(tiny_backbone) as loaded:
        yield loaded


@dataclass(frozen=True)
class Swept:
    """A sweep that ran through."""

    out: Path
    rows: list[ResultRow]
    loads: list[str]


@pytest.fixture(scope="module")
def swept(photos: Path, tiny_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """To be copied before anything is written into it."""
    out = tmp_path_factory.mktemp("swept") / "sweep"
    with towers_from_memory(tiny_backbone) as loaded:
        return Swept(out, run_sweep(photos, out, Hooked()), loaded)


def top1(rows: list[ResultRow], suite: str = "accuracy") -> list[tuple[str, int | None, int | None]]:
    """Method, shots and seed of each top-1 row."""
    return [(r.method, r.shots, r.seed) for r in rows if r.suite == suite and r.metric == "top1"]


def test_every_number_once(swept: Swept) -> None:
    rows = swept.rows
    assert sorted(top1(rows), key=str) == sorted(
        [
            *(("noisy", k, s) for k in (1, 2) for s in (1, 2)),
            *(("linear_probe", k, s) for k in (1, 2) for s in (1, 2)),
            ("zeroshot", None, None),
        ],
        key=str,
    )
    assert swept.loads == ["tiny-vit"]
    stored = ResultStore(swept.out / "results.jsonl").read().rows
    assert sorted(stored, key=repr) == sorted(rows, key=repr)
    assert len(list((swept.out / "runs").iterdir())) == 4
    assert len(list((swept.out / "references").iterdir())) == 5
    # The curve of each seed is whole, and has each number once.
    measured = [r for r in accuracies(rows) if r.suite == "few-shot" and r.method == "noisy" and r.status == "ok"]
    assert sorted((r.cell, r.seed) for r in measured) == [(f"{k}-shot", s) for k in (1, 2) for s in (1, 2)]


def test_the_table_of_a_sweep(swept: Swept) -> None:
    text = TerminalReporter().render(swept.rows, width=100)
    assert "mean ± sample standard deviation (ddof=1) over seeds" in text
    lines = [line.split()[:3] for line in text.splitlines()[: text.splitlines().index("")]]
    assert ["noisy", "1", "2"] in lines
    assert ["noisy", "2", "2"] in lines
    assert ["linear_probe", "1", "2"] in lines
    assert ["zeroshot", "–", "–"] in lines


def test_a_rerun_does_nothing_again(photos: Path, tmp_path: Path, swept: Swept, loads: list[str]) -> None:
    out = Path(shutil.copytree(swept.out, tmp_path / "sweep"))
    progress = Hooked()
    assert run_sweep(photos, out, progress) == swept.rows
    assert (out / "results.jsonl").read_bytes() == (swept.out / "results.jsonl").read_bytes()
    assert progress.steps == 0
    assert loads == []


def test_a_grid_may_grow(photos: Path, tmp_path: Path, loads: list[str]) -> None:
    first = run_sweep(photos, tmp_path / "sweep", Hooked(), seeds=[1])
    progress = Hooked()
    both = run_sweep(photos, tmp_path / "sweep", progress, seeds=[1, 2])
    assert {(r.key, r.metric) for r in first} < {(r.key, r.metric) for r in both}
    assert progress.steps == 3 * (1 + 2)  # the second seed's two runs: 3 epochs of 4 and of 8 images, 4 a step


def test_methods_that_learn_nothing_run_once_a_data_set(photos: Path, tmp_path: Path, loads: list[str]) -> None:
    rows = run_sweep(photos, tmp_path / "sweep", Hooked(), methods=["zeroshot", "linear_probe"])
    assert top1(rows) == [("zeroshot", None, None), *(("linear_probe", k, s) for s in (1, 2) for k in (1, 2))]
    names = {path.name for path in (tmp_path / "sweep" / "runs").iterdir()}
    assert sum(name.startswith("zeroshot") for name in names) == 1
    assert not (tmp_path / "sweep" / "references").exists()


@pytest.fixture
def exploding() -> Iterator[type[Exploding]]:
    """A second made-up method, whose loss is NaN at step 5."""
    source = Source("second", "second", "1.0")
    target = "tests.training.material:Exploding"
    host().methods.register("exploding", target=target, config="vlmprompt.methods.coop:CoOpConfig", source=source)
    yield Exploding
    host().methods.withdraw(source)


def test_a_failing_run_leaves_the_others(
    photos: Path, tmp_path: Path, loads: list[str], exploding: type[Exploding], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, progress = tmp_path / "sweep", Hooked()
    axes: dict[str, Any] = {"methods": ["exploding", "noisy"], "shots": [2], "seeds": [1]}
    rows = run_sweep(photos, out, progress, **axes)
    failed = [r for r in rows if r.status == "failed"]
    assert [(r.method, r.suite, r.cell, r.shots, r.seed) for r in failed] == [
        ("exploding", "accuracy", "*", 2, 1),
        ("exploding", "few-shot", "*", 2, 1),
    ]
    assert "the loss is nan at step 5" in failed[0].note
    assert [m for m, *_ in top1(rows)] == ["noisy", "zeroshot", "linear_probe"]
    assert [w for w in progress.warnings if w.startswith("run exploding-photos-tiny-vit-2shot-seed1 failed: ")]
    error = incomplete(rows)
    assert error is not None
    assert error.exit_code == 5
    assert "exploding [1]" in TerminalReporter().render(rows, width=100)

    # Mended, it is trained; its failure is history.
    monkeypatch.setattr(exploding, "at_step", 10**9)
    rows = run_sweep(photos, out, Hooked(), **axes)
    assert incomplete(rows) is None
    assert ("exploding", 2, 1) in top1(rows)
    assert not [r for r in current(ResultStore(out / "results.jsonl").read().rows) if r.status == "failed"]


def test_a_method_that_leaves_ends_its_run_alone(
    photos: Path, tmp_path: Path, loads: list[str], exploding: type[Exploding], monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(*_: object, **__: object) -> None:
        sys.exit("enough")

    monkeypatch.setattr(exploding, "loss", leave)
    rows = run_sweep(photos, tmp_path / "sweep", Hooked(), methods=["exploding", "zeroshot"], shots=[1], seeds=[1])
    (note,) = {r.note for r in rows if r.status == "failed"}
    assert note.startswith("method 'exploding' of plugin ") and "SystemExit: enough" in note
    assert {r.method for r in rows if r.status == "ok"} == {"zeroshot", "linear_probe"}


def test_force_does_everything_again(photos: Path, tmp_path: Path, loads: list[str]) -> None:
    axes = {"shots": [1], "seeds": [1]}
    run_sweep(photos, tmp_path / "sweep", Hooked(), **axes)
    grid = Grid(["noisy"], [f"folder:{photos}"], [1], [1])
    progress = Hooked()
    sweep(
        grid,
        resolver("n_ctx=2", "epochs=2", "batch_size=4"),
        ["accuracy"],
        runtime(tmp_path),
        out=tmp_path / "sweep",
        force=True,
        progress=progress,
    )
    assert progress.steps == 2


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"methods": []}, "the sweep has no methods"),
        ({"seeds": []}, "the sweep has no seeds"),
        ({"methods": ["coop", "noissy"]}, "noissy"),
        ({"shots": [0]}, "shots = 0"),
    ],
)
def test_mistakes_show_before_anything_starts(
    photos: Path, tmp_path: Path, loads: list[str], axes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        run_sweep(photos, tmp_path / "sweep", Hooked(), **axes)
    assert not (tmp_path / "sweep").exists()


def test_two_precisions_are_refused(photos: Path, tmp_path: Path, loads: list[str]) -> None:
    grid = Grid(["noisy", "coop"], [f"folder:{photos}"], [1], [1])
    fp32, bf16 = resolver("n_ctx=2"), resolver("precision=bf16")

    def resolve(**flags: Any) -> Any:
        return (bf16 if flags["method"] == "coop" else fp32)(**flags)

    with pytest.raises(UsageError, match="bf16 and fp32"):
        sweep(grid, resolve, ["accuracy"], runtime(tmp_path), out=tmp_path / "sweep")


def test_settings_are_an_axis(photos: Path, tmp_path: Path, loads: list[str]) -> None:
    grid = Grid(["noisy"], [f"folder:{photos}"], [1], [1], settings=["few-shot", "base-to-new"])
    out = tmp_path / "sweep"
    rows = sweep(grid, resolver("n_ctx=2", "epochs=2"), ["accuracy"], runtime(tmp_path), out=out, progress=Hooked())
    assert [(r.method, r.cell) for r in rows if r.metric == "top1"] == [
        *(("noisy", cell) for cell in ("test", "test-base")),
        *((method, cell) for cell in ("test", "test-base") for method in ("zeroshot", "linear_probe")),
    ]


def test_data_sets_of_one_name_have_runs_of_their_own() -> None:
    assert short_names(["folder:a/photos", "folder:b/photos", "csv:photos.csv", "made-up", "folder:a/photos"]) == {
        "folder:a/photos": "photos",
        "folder:b/photos": "photos-2",
        "csv:photos.csv": "photos-3",
        "made-up": "made-up",
    }


def test_an_interruption_says_how_to_go_on(photos: Path, tmp_path: Path, swept: Swept, loads: list[str]) -> None:
    def interrupt(step: int) -> None:
        if step == 5:
            signal.raise_signal(signal.SIGINT)

    out = tmp_path / "sweep"
    with pytest.raises(Interrupted, match=r"^interrupted; what was measured") as caught:
        run_sweep(photos, out, Hooked(interrupt))
    assert caught.value.exit_code == 130
    assert str(out / "results.jsonl") in caught.value.message
    assert caught.value.hint == "the same command goes on from there"
    resumed = Hooked()
    assert run_sweep(photos, out, resumed) == swept.rows
    assert contents(out) == contents(swept.out)


def contents(out: Path) -> dict[str, bytes]:
    """The files of a sweep without times: results as they are, checkpoints, and what run.json says of the outcome."""
    files = {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*.safetensors"))}
    for path in sorted(out.rglob("run.json")):
        info = json.loads(path.read_text())
        files[str(path.relative_to(out))] = json.dumps([info[k] for k in ("config", "status", "data")]).encode()
    return files | {"results.jsonl": (out / "results.jsonl").read_bytes()}


def run_whole(photos: Path, out: Path) -> None:
    """Run the sweep to its end."""
    process = Process(sweep_tiny.main, photos, out)
    _, errors = process.communicate()
    assert process.returncode == 0, errors


def run_stopped(photos: Path, out: Path, stop_at: int, with_signal: signal.Signals) -> int | None:
    """Run the sweep; send it a signal after so many steps, and give its exit code."""
    process = Stepwise(sweep_tiny.main, photos, out)
    for _ in range(stop_at - 1):
        process.step()
        process.go_on()
    process.step()
    process.send_signal(with_signal)
    process.run_free()
    process.communicate()
    return process.returncode


@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGKILL])
def test_stopped_anywhere_it_ends_with_the_same_bytes(
    photos: Path, tmp_path: Path, swept: Swept, with_signal: signal.Signals
) -> None:
    steps = 2 * (3 + 6)  # two seeds, 1 and 2 shots of 4 classes, 3 epochs, 4 images a step
    stop_at = random.Random(f"sweep {with_signal.name}").randrange(1, steps)
    out = tmp_path / "sweep"
    code = run_stopped(photos, out, stop_at, with_signal)
    assert code == (130 if with_signal == signal.SIGINT else -signal.SIGKILL)
    run_whole(photos, out)
    assert contents(out) == contents(swept.out)


def test_results_are_read_once_the_folder_may_be_worked_in(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, held = tmp_path / "sweep", []

    @contextmanager
    def waiting(*_: object, **__: object) -> Iterator[None]:
        held.append(True)
        yield

    monkeypatch.setattr("vlmprompt.evaluation.sweep.shared", waiting)
    monkeypatch.setattr(
        "vlmprompt.evaluation.sweep.SweepWork", lambda *a, **k: SweepWork(*a, **k) if held else pytest.fail("too early")
    )
    with registered("noisy", Noisy):
        grid = Grid(methods=["noisy"], datasets=[f"folder:{photos}"], shots=[1], seeds=[1])
        assert sweep(grid, resolver(*SETS), ["accuracy"], runtime(tmp_path / "unused"), out=out, force=True)

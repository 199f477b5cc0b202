"""The runner: skips what is done, keeps what it has, goes on after a failure, and says what it could not do."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.material import Scripted, fails, gives
from tests.training.material import Hooked, config, registered, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.errors import CapabilityError, InputError, Interrupted, UsageError
from vlmprompt.evaluation.classified import CALIBRATION
from vlmprompt.evaluation.contract import MetricValue
from vlmprompt.evaluation.failures import incomplete
from vlmprompt.evaluation.runner import RESULTS_FILE, evaluate
from vlmprompt.methods.coop import CoOp
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import ResultStore, current
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A run folder of one's own."""
    return Path(shutil.copytree(trained, tmp_path / trained.name))


def measure(run: Path, backbone: Backbone | None, *suites: str, **more: Any) -> list[ResultRow]:
    """Evaluate without references."""
    return evaluate(run, suites, runtime(run.parent), backbone=backbone, **{"reference": False, **more})


def test_a_row_says_everything(run: Path, tiny_backbone: Backbone) -> None:
    rows = measure(run, tiny_backbone, "accuracy")
    assert [row.metric for row in rows] == ["top1", "mean_per_class", *CALIBRATION]  # four classes: no top5
    public = rows[0].public()
    value, setup = public.pop("value"), public.pop("setup")
    assert public == {
        "run": run.name,
        "method": "coop",
        "dataset": "photos",
        "backbone": "tiny-vit",
        "shots": 2,
        "seed": 1,
        "suite": "accuracy",
        "suite_version": 1,
        "cell": "test",
        "metric": "top1",
        "n": 12,
        "higher_is_better": True,
        "status": "ok",
        "note": "",
    }
    assert value in {i / 12 for i in range(13)}
    info = load_run(run).info
    assert setup["train.lr"] == "0.02" and setup["options.n_ctx"] == "2" and "train.momentum" not in setup
    assert {key: text for key, text in setup.items() if "." not in key} == {
        "data": info.config.data,
        "code": f"vlmprompt {info.versions['vlmprompt']}",
        "data digest": load_run(run).load_dataset().measured_digest[:12],
        "backbone digest": tiny_backbone.digest[:12],
    }
    assert [row.higher_is_better for row in rows] == [True, True] + [False] * len(CALIBRATION)
    assert list(ResultStore(run / RESULTS_FILE).read().rows) == rows


def test_references_stand_beside_the_run(run: Path, tiny_backbone: Backbone) -> None:
    rows = measure(run, tiny_backbone, "accuracy", reference=True)
    assert [(r.method, r.shots, r.seed) for r in rows if r.metric == "top1"] == [
        ("coop", 2, 1),
        ("zeroshot", None, None),
        ("linear_probe", 2, 1),
    ]
    assert {r.run for r in rows} == {run.name}
    probe = [r for r in rows if r.method == "linear_probe"]
    assert probe[0].value is not None
    assert probe[0].value > 0.9  # the photos are one colour a class
    folders = {p.name.rsplit("-", 1)[0]: p for p in (run / "references").iterdir()}
    assert folders.keys() == {"zeroshot", "linear_probe"}
    fit = json.loads((folders["linear_probe"] / "run.json").read_text())["fit"]
    assert "validation images" in fit["C_source"]


def test_a_reference_is_not_its_own_reference(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    folder = train(config(photos, method="zeroshot"), runtime(tmp_path), backbone=tiny_backbone).run
    rows = measure(folder, tiny_backbone, "accuracy", reference=True)
    assert [(r.method, r.shots, r.seed) for r in rows if r.metric == "top1"] == [
        ("zeroshot", None, None),
        ("linear_probe", 3, 1),
    ]


def test_a_probe_run_and_a_probe_beside_a_run_agree(run: Path, photos: Path, tiny_backbone: Backbone) -> None:
    settings = config(photos, method="linear_probe", shots=2)
    own = train(settings, runtime(run.parent), backbone=tiny_backbone).run
    alone = [r.value for r in measure(own, tiny_backbone, "accuracy")]
    beside = [r.value for r in measure(run, tiny_backbone, "accuracy", reference=["linear_probe"])]
    assert len(alone) == 7 and alone == beside[7:]


def test_what_is_done_needs_no_towers(run: Path, tiny_backbone: Backbone) -> None:
    first = measure(run, tiny_backbone, "accuracy", reference=True)
    content = (run / RESULTS_FILE).read_bytes()
    progress = Hooked()
    # "tiny-vit" is no architecture of open_clip: loading it would fail.
    assert measure(run, None, "accuracy", reference=True, progress=progress) == first
    assert (run / RESULTS_FILE).read_bytes() == content
    assert progress.messages == ["3 cells were measured before (--force measures again)"]


def test_force_measures_again(run: Path, tiny_backbone: Backbone, scripted: type[Scripted]) -> None:
    scripted.cells_by_name = {"a": gives(0.25)}
    measure(run, tiny_backbone, "scripted")
    scripted.cells_by_name = {"a": gives(0.75)}
    assert [r.value for r in measure(run, tiny_backbone, "scripted")] == [0.25]
    assert [r.value for r in measure(run, tiny_backbone, "scripted", force=True)] == [0.75]
    assert [r.value for r in measure(run, tiny_backbone, "scripted")] == [0.75]
    assert scripted.runs == ["coop a", "coop a"]


@pytest.mark.parametrize("change", ["version", "cell", "parts", "checkpoint", "config", "code"])
def test_what_the_numbers_depend_on_is_in_the_key(
    run: Path,
    photos: Path,
    tiny_backbone: Backbone,
    scripted: type[Scripted],
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    scripted.cells_by_name = {"a": gives(0.5)}
    before = measure(run, tiny_backbone, "scripted")
    if change == "version":
        monkeypatch.setattr(scripted, "version", 2)
    elif change == "code":  # of the method's distribution, the suite's, or the core
        monkeypatch.setattr("vlmprompt.evaluation.keys.code_version", lambda name: f"another {name}")
    elif change == "cell":
        scripted.cells_by_name = {"b": gives(0.5)}
    elif change == "parts":
        listed = scripted.cells
        monkeypatch.setattr(
            scripted, "cells", lambda self, c: [_with_parts(cell, {"files": "abc"}) for cell in listed(self, c)]
        )
    elif change == "config":
        settings = config(photos, shots=2, epochs=4)
        train(settings, runtime(run.parent), out=run, force=True, backbone=tiny_backbone)
    else:
        path = run / "checkpoint.safetensors"
        path.write_bytes(path.read_bytes() + b" ")
    after = measure(run, tiny_backbone, "scripted")
    assert before[0].key != after[0].key
    assert len(scripted.runs) == 2


def _with_parts(cell: Any, parts: dict[str, str]) -> Any:
    from dataclasses import replace

    return replace(cell, parts=parts)


def test_one_failing_cell_leaves_the_others(run: Path, tiny_backbone: Backbone, scripted: type[Scripted]) -> None:
    scripted.cells_by_name = {
        "a": gives(0.5),
        "b": fails(InputError("no such file x", hint="give one")),
        "c": fails(ZeroDivisionError("a bug\nof two lines")),
        "d": gives(1.0),
    }
    progress = Hooked()
    rows = measure(run, tiny_backbone, "scripted", progress=progress)
    bug = rows[2].note
    assert bug.startswith(
        "suite 'scripted' of plugin 'made-up' (made-up 1.0) failed in fails.<locals>.compute (material"
    )
    assert "ZeroDivisionError: a bug" in bug
    assert [(r.cell, r.status, r.value, r.note) for r in rows] == [
        ("a", "ok", 0.5, ""),
        ("b", "failed", None, "no such file x (give one)"),
        ("c", "failed", None, bug),
        ("d", "ok", 1.0, ""),
    ]
    assert progress.warnings == [
        "scripted b of coop failed: no such file x (give one)",
        f"scripted c of coop failed: {bug}",
    ]
    error = incomplete(rows)
    assert error is not None
    assert error.exit_code == 5
    assert error.message == "2 of 4 cells failed; the first: scripted b of coop: no such file x (give one)"
    assert incomplete([rows[0], rows[3]]) is None


def away(run: Path) -> None:
    shutil.rmtree(run)


def renamed(run: Path) -> None:
    run.rename(run.with_name("elsewhere"))


@pytest.mark.parametrize("vanish", [away, renamed])
def test_a_run_that_vanishes_is_named_at_the_next_write(
    run: Path, tiny_backbone: Backbone, scripted: type[Scripted], vanish: Callable[[Path], None]
) -> None:
    def measured() -> Any:
        vanish(run)
        return gives(0.5)()

    scripted.cells_by_name = {"a": measured, "b": gives(1.0)}
    with pytest.raises(InputError, match="was removed, renamed or emptied while it was being measured") as caught:
        measure(run, tiny_backbone, "scripted")
    assert str(run / RESULTS_FILE) in caught.value.message and scripted.runs == ["coop a"]
    assert [(r.cell, r.value) for r in ResultStore(run / RESULTS_FILE).read().rows] == [("a", 0.5)]


class Mute(BaseException):
    """An error that cannot even say what it is."""

    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (SystemExit(3), "SystemExit: 3"),
        (GeneratorExit(), "GeneratorExit:"),
        (Mute(), "Mute: (its message cannot be read)"),
    ],
)
def test_a_cell_that_would_end_the_program_fails_alone(
    run: Path, tiny_backbone: Backbone, scripted: type[Scripted], error: BaseException, note: str
) -> None:
    scripted.cells_by_name = {"a": fails(error), "b": gives(1.0)}
    rows = measure(run, tiny_backbone, "scripted")
    assert [(r.cell, r.status) for r in rows] == [("a", "failed"), ("b", "ok")]
    assert note in rows[0].note and rows[1].note == ""


def test_failed_cells_are_tried_again(run: Path, tiny_backbone: Backbone, scripted: type[Scripted]) -> None:
    scripted.cells_by_name = {"a": gives(0.5), "b": fails(OSError("busy"))}
    measure(run, tiny_backbone, "scripted")
    scripted.cells_by_name["b"] = gives(0.7)
    rows = measure(run, tiny_backbone, "scripted")
    assert [(r.cell, r.status, r.value) for r in rows] == [("a", "ok", 0.5), ("b", "ok", 0.7)]
    assert scripted.runs == ["coop a", "coop b", "coop b"]
    assert list(ResultStore(run / RESULTS_FILE).read().rows) == rows


def test_a_number_that_is_none_is_a_failure(run: Path, tiny_backbone: Backbone, scripted: type[Scripted]) -> None:
    scripted.cells_by_name = {"a": gives(math.nan)}
    (row,) = measure(run, tiny_backbone, "scripted")
    assert (row.status, row.value) == ("failed", None)
    assert incomplete([row]) is not None


def test_what_a_method_cannot_do_is_no_failure(run: Path, tiny_backbone: Backbone, scripted: type[Scripted]) -> None:
    scripted.cells_by_name = {"a": fails(CapabilityError("it has no local features"))}
    rows = measure(run, tiny_backbone, "scripted")
    assert [(r.status, r.value, r.note) for r in rows] == [("not_applicable", None, "it has no local features")]
    assert incomplete(rows) is None
    assert measure(run, tiny_backbone, "scripted") == rows
    assert len(scripted.runs) == 1


def test_an_interruption_keeps_what_was_measured(run: Path, tiny_backbone: Backbone, scripted: type[Scripted]) -> None:
    scripted.cells_by_name = {"a": gives(0.5), "b": fails(KeyboardInterrupt()), "c": gives(0.1)}
    with pytest.raises(Interrupted) as caught:
        measure(run, tiny_backbone, "scripted")
    assert caught.value.exit_code == 130
    assert str(run / RESULTS_FILE) in caught.value.message
    scripted.cells_by_name["b"] = gives(0.3)
    assert [r.value for r in measure(run, tiny_backbone, "scripted")] == [0.5, 0.3, 0.1]
    assert scripted.runs == ["coop a", "coop b", "coop b", "coop c"]


def test_a_suite_that_cannot_list_its_cells_fails_alone(
    run: Path, tiny_backbone: Backbone, scripted: type[Scripted]
) -> None:
    scripted.cells_by_name = {"a": gives(0.5)}
    rows = measure(run, tiny_backbone, "broken", "scripted")
    assert [(r.suite, r.cell, r.status) for r in rows] == [("broken", "*", "failed"), ("scripted", "a", "ok")]
    who = "suite 'broken' of plugin 'made-up' (made-up 1.0)"
    assert rows[0].note.startswith(f"{who} failed in Broken.cells (material.py, line ")
    assert "KeyError: 'colour'" in rows[0].note and "tell the author of made-up" in rows[0].note


def test_a_suite_must_keep_its_promise(run: Path, tiny_backbone: Backbone, scripted: type[Scripted]) -> None:
    scripted.cells_by_name = {"a": lambda: [MetricValue("top5", 0.5, 10)]}
    (row,) = measure(run, tiny_backbone, "scripted")
    assert (row.metric, row.status) == ("top1", "failed")
    who = "suite 'scripted' of plugin 'made-up' (made-up 1.0)"
    assert row.note == f"{who} announced top1 for cell a, but gave top5 (tell the author of made-up)"


def test_a_failure_that_is_mended_is_not_shown_any_more(run: Path, tiny_backbone: Backbone) -> None:
    """What was measured before holds again, although a failure was stored since."""
    store, path = ResultStore(run / RESULTS_FILE), run / "checkpoint.safetensors"
    measured = measure(run, tiny_backbone, "accuracy")
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert {row.status for row in measure(run, tiny_backbone, "accuracy")} == {"failed"}
    assert {row.status for row in current(store.read().rows)} == {"failed"}
    path.write_bytes(whole)
    for _ in range(2):
        assert measure(run, tiny_backbone, "accuracy") == measured == current(store.read().rows)
    assert len(path.with_name(RESULTS_FILE).read_text().splitlines()) == 3 * len(measured)


def test_a_torn_line_is_reported_and_measured_again(run: Path, tiny_backbone: Backbone) -> None:
    rows = measure(run, tiny_backbone, "accuracy")
    path = run / RESULTS_FILE
    path.write_bytes(path.read_bytes()[:-5])
    progress = Hooked()
    assert measure(run, tiny_backbone, "accuracy", progress=progress) == rows
    assert progress.warnings == [f"the last line of {path} is incomplete and was left out"]
    assert list(ResultStore(path).read().rows) == rows


def test_a_reference_that_fails_leaves_the_run(
    run: Path, tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise InputError("the probe did not fit")

    monkeypatch.setattr("vlmprompt.methods.linear_probe.LinearProbe.fit", broken)
    rows = measure(run, tiny_backbone, "accuracy", reference=True)
    assert {r.method: r.status for r in rows} == {"coop": "ok", "zeroshot": "ok", "linear_probe": "failed"}
    monkeypatch.undo()
    rows = measure(run, tiny_backbone, "accuracy", reference=True)
    assert {r.status for r in rows} == {"ok"}


def test_a_reference_on_other_data_is_trained_again(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    data = Path(shutil.copytree(photos, tmp_path / "photos"))
    settings = config(data, shots=2)
    run = train(settings, runtime(tmp_path / "runs"), backbone=tiny_backbone).run
    measure(run, tiny_backbone, "accuracy", reference=True)
    (data / "train" / "blue whale" / "0.png").unlink()
    progress = Hooked()
    rows = measure(run, tiny_backbone, "accuracy", reference=True, progress=progress)
    assert {r.status for r in rows} == {"ok"}
    infos = [json.loads(f.read_text()) for f in (run / "references").glob("*/run.json")]
    now = load_run(run).load_dataset().digest
    assert [info["data"]["digest"] for info in infos] == [now, now]
    assert json.loads((run / "run.json").read_text())["data"]["digest"] != now


def test_usage_errors_come_before_any_work(run: Path, tiny_backbone: Backbone) -> None:
    with pytest.raises(UsageError, match="acuracy") as caught:
        measure(run, tiny_backbone, "acuracy")
    assert "accuracy" in (caught.value.hint or "")
    assert not (run / RESULTS_FILE).exists()
    with pytest.raises(InputError, match="is not a run"):
        measure(run.parent, tiny_backbone, "accuracy")


def test_one_suite_may_be_given_by_itself(run: Path, tiny_backbone: Backbone) -> None:
    once = evaluate(run, "accuracy", runtime(run.parent), backbone=tiny_backbone, reference=False)
    twice = measure(run, tiny_backbone, "accuracy", "accuracy")
    assert once == twice


def test_a_run_of_a_method_that_is_gone(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    with registered("own", CoOp):
        folder = train(config(photos, method="own"), runtime(tmp_path), backbone=tiny_backbone).run
    with pytest.raises(InputError, match="was trained by method 'own' of made-up unknown, which is not installed"):
        measure(folder, tiny_backbone, "accuracy")


def test_random_towers_are_named_in_every_number(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    settings = config(photos, random_weights=7)
    folder = train(settings, runtime(tmp_path), backbone=tiny_backbone).run
    rows = measure(folder, tiny_backbone, "accuracy", reference=True)
    assert {r.note for r in rows} == {"random tower weights (seed 7)"}

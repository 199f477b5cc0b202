"""Trackers: what they are told, log.csv and TensorBoard's event files against log.jsonl, and one that fails."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.material import STEPS, Exploding, Hooked, config, registered, runtime
from tests.training.toy_trackers import Failing, NoTracker, Toy, told, tracker
from vlmprompt.api import TrackedRun
from vlmprompt.api import train as train_from_python
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.cli.main import main
from vlmprompt.config.models import Runtime
from vlmprompt.errors import InputError, Interrupted, PluginError, UsageError
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run
from vlmprompt.training.trackers.following import Trackers


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def place(folder: Path, *trackers: str) -> Runtime:
    return runtime(folder).model_copy(update={"tracker": trackers})


def interrupt(step: int, at: int) -> None:
    if step == at:
        os.kill(os.getpid(), signal.SIGINT)


# -- what a tracker is told --------------------------------------------------------------------------
def test_a_tracker_gets_the_start_every_line_and_the_end(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    settings = config(photos)
    with tracker("toy", Toy):
        run = train(settings, place(tmp_path, "toy"), out=tmp_path / "r", backbone=tiny_backbone).run
    ((start, earlier),) = told("start")
    assert (start.name, start.folder, start.steps, earlier) == ("r", tmp_path / "r", 0, [])
    assert start.config == settings.model_dump(mode="json") and start.class_names == load_run(run).class_names
    assert told("record") == log(run) and len(log(run)) == STEPS + 3
    assert told("end") == [("finished", None)] and Toy.told[-1][0] == "end"
    # Before each checkpoint: after steps 2, 4, 6, 8 and at the ends of three epochs.
    assert len(told("flush")) == 7
    assert load_run(run).config == settings  # it is no part of the run's identity
    again = train(settings, place(tmp_path), out=tmp_path / "r", backbone=tiny_backbone)
    assert again.run == run


def test_interrupted_resumed_and_failed_runs_say_so(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    how: dict[str, Any] = {"out": tmp_path / "r", "backbone": tiny_backbone}
    with tracker("toy", Toy):
        with pytest.raises(Interrupted):
            train(config(photos), place(tmp_path, "toy"), progress=Hooked(lambda n: interrupt(n, 5)), **how)
        ((ending, error),) = told("end")
        assert ending == "interrupted" and "stopped after step 5 of 9" in error
        Toy.told.clear()
        train(config(photos), place(tmp_path, "toy"), resume=True, **how)
        ((start, earlier),) = told("start")
        assert start.steps == 5 and [line["step"] for line in earlier] == [1, 2, 3, 3, 4, 5]
        assert earlier + told("record") == log(tmp_path / "r") and told("end") == [("finished", None)]
        Toy.told.clear()
        with registered("exploding", Exploding), pytest.raises(InputError):
            train(config(photos, method="exploding"), place(tmp_path, "toy"), backbone=tiny_backbone)
        ((ending, error),) = told("end")
        assert ending == "failed" and "the loss is nan at step 5" in error
        assert told("record")[-1]["error"] == "the loss is nan" and len(told("record")) == 6


def test_a_tracker_that_fails_is_named_once_and_left_out(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    progress = Hooked()
    with tracker("toy", Failing):
        run = train(
            config(photos), place(tmp_path, "toy"), out=tmp_path / "r", progress=progress, backbone=tiny_backbone
        ).run
    (warning,) = [text for text in progress.warnings if "tracker" in text]
    assert warning == "tracker 'toy' failed, the run goes on without it: SystemExit: no more"
    assert len(told("record")) == 3 and not told("end")
    whole = train(config(photos), place(tmp_path), out=tmp_path / "whole", backbone=tiny_backbone).run
    assert (run / "checkpoint.safetensors").read_bytes() == (whole / "checkpoint.safetensors").read_bytes()
    assert load_run(run).info.status == "finished" and len(log(run)) == STEPS + 3
    assert_table(run)


def test_no_tracker_can_change_what_another_is_told(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    with tracker("toy", Toy), tracker("twin", Toy):
        run = train(config(photos), place(tmp_path, "toy", "twin"), out=tmp_path / "r", backbone=tiny_backbone).run
    assert told("record")[::2] == told("record")[1::2] == log(run)


def test_names_that_nobody_provides_and_things_that_are_none(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="unknown tracker 'tensorbord'") as error:
        train(config(photos), place(tmp_path, "tensorbord"), backbone=tiny_backbone)
    assert "tensorboard" in str(error.value.hint)
    with tracker("toy", NoTracker), pytest.raises(PluginError, match=r"tracker 'toy' of .*toys.* is a NoTracker"):
        train(config(photos), place(tmp_path, "toy"), backbone=tiny_backbone)
    assert not list(tmp_path.iterdir())


def test_a_method_without_a_loop_has_nothing_to_tell(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    progress = Hooked()
    with tracker("toy", Toy):
        settings = config(photos, method="zeroshot")
        run = train(settings, place(tmp_path, "toy"), progress=progress, backbone=tiny_backbone).run
    assert progress.warnings == ["method 'zeroshot' has no training loop: there is nothing to tell a tracker"]
    assert not Toy.told and load_run(run).info.files == ("checkpoint.safetensors", "MODEL_CARD.md")


def test_the_tracker_of_the_docs_works(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/plugins.md").read_text(encoding="utf-8")
    (block,) = [own for own in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "(Tracker)" in own]
    said: list[Any] = []

    class Brush:
        def __init__(self, name: str, *, from_step: int) -> None:
            said.append((name, from_step))

        def write(self, step: int, loss: float) -> None:
            said.append((step, loss))

        def put_away(self) -> None:
            said.append("away")

    space: dict[str, Any] = {"Brush": Brush, "paint_left": lambda: bool(said)}
    exec(block, space)
    with pytest.raises(InputError, match="needs paint"):
        space["Wall"]()
    said.append("paint")
    progress = Hooked()
    work = Trackers({"wall": space["Wall"]()}, progress)
    with work.told_of_the_end():
        work.start(TrackedRun("r", tmp_path, {}, (), 4, list))
        work.record({"step": 5, "loss": 9.0})
        work.record({"step": 6, "epoch_end": True, "loss": 0.5})
        work.flush()
    assert said == ["paint", ("r", 4), (6, 0.5), "away"] and progress.warnings == []


# -- log.csv -----------------------------------------------------------------------------------------
def assert_table(run: Path) -> None:
    """log.csv says what log.jsonl says, read by Python's own csv and compared value for value."""
    with (run / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = log(run)
    assert len(rows) == len(lines)
    for row, line in zip(rows, lines, strict=True):
        found = {name: json.loads(value) for name, value in row.items() if value}
        expected = {name: value for name, value in line.items() if not isinstance(value, dict)}
        for table in ("parts", "diagnostics", "gradients"):
            expected |= {f"{table}.{name}": value for name, value in line.get(table, {}).items()}
        assert found == {name: value for name, value in expected.items() if value is not None}


@pytest.mark.parametrize("changes", [{}, {"method": "bloom", "validate_every": 2}], ids=str)
def test_the_table_is_the_log_after_any_end(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path, changes: dict[str, Any]
) -> None:
    settings = config(photos, **changes)
    how: dict[str, Any] = {"out": tmp_path / "r", "backbone": tiny_backbone}
    with pytest.raises(Interrupted):
        train(settings, place(tmp_path), progress=Hooked(lambda n: interrupt(n, 5)), **how)
    assert_table(tmp_path / "r")
    with (tmp_path / "r" / "log.csv").open("a") as file:  # of a process that was killed behind its checkpoint
        file.write("6,2,,0.1,2.")
    run = train(settings, place(tmp_path), resume=True, **how).run
    assert_table(run)
    header = (run / "log.csv").read_text().splitlines()[0]
    assert header.startswith("step,epoch,epoch_end,lr,loss,accuracy,seconds,parts.ce")
    assert load_run(run).info.files[:3] == ("checkpoint.safetensors", "log.jsonl", "log.csv")


def test_the_images_of_an_error_are_in_the_table(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    with registered("exploding", Exploding), pytest.raises(InputError):
        train(config(photos, method="exploding"), place(tmp_path), out=tmp_path / "r", backbone=tiny_backbone)
    with (tmp_path / "r" / "log.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert last["error"] == "the loss is nan" and json.loads(last["images"]) == log(tmp_path / "r")[-1]["images"]


def test_a_users_table_is_not_written_over_when_an_older_run_goes_on(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    run, how = tmp_path / "r", {"out": tmp_path / "r", "backbone": tiny_backbone}
    with pytest.raises(Interrupted):
        train(config(photos), place(tmp_path), progress=Hooked(lambda n: interrupt(n, 5)), **how)  # type: ignore[arg-type]
    content = json.loads((run / "run.json").read_text())
    content["files"].remove("log.csv")
    (run / "run.json").write_text(json.dumps(content))
    (run / "log.csv").write_text("mine")
    with pytest.raises(InputError, match=r"log\.csv was not written by a run"):
        train(config(photos), place(tmp_path), resume=True, **how)  # type: ignore[arg-type]
    assert (run / "log.csv").read_text() == "mine"


# -- TensorBoard -------------------------------------------------------------------------------------
def curves_of(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (step, value), as TensorBoard itself reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard")).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def expected_curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """The same of log.jsonl, in single precision."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in log(run):
        kind = "epoch" if "epoch_end" in line else "step"
        named = {name: line[name] for name in ("lr", "loss", "accuracy", "seconds", "val_accuracy") if name in line}
        for table in ("parts", "diagnostics", "gradients"):
            named |= {f"{table}/{name}": value for name, value in line.get(table, {}).items()}
        for name, value in named.items():
            found.setdefault(f"{kind}/{name}", []).append((line["step"], float(np.float32(value))))
    return found


def test_event_files_hold_the_numbers_of_the_log(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    settings = config(photos, method="bloom")
    run = train(settings, place(tmp_path, "tensorboard"), out=tmp_path / "r", backbone=tiny_backbone).run
    curves = curves_of(run)
    assert curves == expected_curves(run)
    assert {"step/loss", "step/parts/ce", "epoch/diagnostics/gate_l.3.cross", "epoch/gradients/gate_v.ratio"} <= set(
        curves
    )
    assert "tensorboard" in load_run(run).info.files


@pytest.mark.parametrize("before", [("tensorboard",), ()], ids=["told before", "not told before"])
def test_a_resumed_run_tells_no_step_twice(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path, before: tuple[str, ...]
) -> None:
    class Killed(BaseException):
        pass

    def kill(step: int) -> None:
        if step == 5:
            raise Killed

    how: dict[str, Any] = {"out": tmp_path / "r", "backbone": tiny_backbone}
    with pytest.raises(Killed):  # after step 5; the checkpoint is of step 4
        train(config(photos), place(tmp_path, *before), progress=Hooked(kill), **how)
    run = train(config(photos), place(tmp_path, "tensorboard"), resume=True, **how).run
    assert curves_of(run) == expected_curves(run)
    assert [step for step, _ in curves_of(run)["step/loss"]] == list(range(1, STEPS + 1))
    files = len(list((run / "tensorboard").iterdir()))
    assert files == len(before) + 1


def test_force_removes_event_files_and_leaves_a_users_own(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    how: dict[str, Any] = {"out": tmp_path / "r", "backbone": tiny_backbone}
    train(config(photos), place(tmp_path, "tensorboard"), **how)
    (tmp_path / "r" / "tensorboard" / "notes.txt").write_text("mine")
    train(config(photos, seed=2), place(tmp_path), force=True, **how)
    assert [file.name for file in (tmp_path / "r" / "tensorboard").iterdir()] == ["notes.txt"]
    (tmp_path / "r" / "tensorboard" / "notes.txt").unlink()
    (tmp_path / "r" / "tensorboard").rmdir()
    train(config(photos), place(tmp_path, "tensorboard"), force=True, **how)
    train(config(photos, seed=2), place(tmp_path), force=True, **how)
    assert not (tmp_path / "r" / "tensorboard").exists()


def test_a_run_that_goes_on_without_a_tracker_still_owns_its_files(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    how: dict[str, Any] = {"out": tmp_path / "r", "backbone": tiny_backbone}
    with pytest.raises(Interrupted):
        train(config(photos), place(tmp_path, "tensorboard"), progress=Hooked(lambda n: interrupt(n, 5)), **how)
    run = train(config(photos), place(tmp_path), resume=True, **how).run
    assert "tensorboard" in load_run(run).info.files
    train(config(photos, seed=2), place(tmp_path), force=True, **how)
    assert not (run / "tensorboard").exists()


# -- how it is asked for -----------------------------------------------------------------------------
def test_without_the_package_the_extra_is_named_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vlmprompt.training.trackers.tensorboard.find_spec", lambda name: None)
    assert main(["train", "--method", "coop", "--tracker", "tensorboard"]) == 3
    errors = capsys.readouterr().err
    assert "tracker tensorboard needs the package tensorboard" in errors and "'vlmprompt[tensorboard]'" in errors
    assert "loading torch" not in errors and not list(tmp_path.iterdir())


@pytest.mark.parametrize("flag", [True, False])
def test_flag_and_configuration_file(
    flag: bool, photos: Path, tiny_spec: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = f'tracker = ["{"csv" if flag else "toy"}"]\nmethod = "coop"\ndata = "folder:{photos}"\nshots = 2\n'
    (tmp_path / "run.toml").write_text(content + 'backbone = "tiny-vit"\n[train]\nmax_steps = 1\n')
    monkeypatch.chdir(tmp_path)
    command = ["train", "--config", "run.toml", "--out", "r", "--device", "cpu", "--workers", "0"]
    with tracker("toy", Toy):
        assert main([*command, *(["--tracker", "toy"] if flag else [])]) == 0
        assert [kind for kind, _ in Toy.told if kind != "flush"] == ["start", "record", "record", "end"]
        Toy.told.clear()
        here = Runtime(device="cpu", workers=0)
        train_from_python(config="run.toml", out="p", runtime=here, progress=Hooked())
        assert bool(Toy.told) is not flag
    assert main(["config", "show", "--config", "run.toml"]) == 0
    assert "tracker" not in json.loads((tmp_path / "r" / "run.json").read_text())["config"]


@pytest.mark.parametrize(
    ("line", "arguments", "message", "hint"),
    [
        ("tracker = 5", [], "tracker (run.toml) must be a name or a list of names", 'tracker = ["tensorboard"]'),
        ("tracker = [1]", [], "tracker (run.toml) must be a name or a list of names", 'tracker = ["tensorboard"]'),
        ('tracker = "tensorbord"', [], "unknown tracker 'tensorbord'", "tensorboard"),
        ("", ["--tracker", "tensorbord"], "unknown tracker 'tensorbord'", "tensorboard"),
        (
            "",
            ["--set", "tracker=csv"],
            "'tracker' (--set) is not part of a run's configuration",
            "give it as --tracker",
        ),
    ],
)
def test_slips_are_refused_before_torch_is_loaded(
    line: str,
    arguments: list[str],
    message: str,
    hint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "run.toml").write_text(line)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--method", "coop", "--config", "run.toml", *arguments]) == 2
    errors = capsys.readouterr().err
    assert message in errors and hint in errors and "loading torch" not in errors
    assert not (tmp_path / "runs").exists()

"""Accuracy on the validation images: its value, what is kept by it, when it ends a run, and what it leaves alone."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.training.material import CLASSES, Hooked, Noisy, config, log_lines, make_photos, registered, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import ImageFeatures, TextFeatures
from vlmprompt.config.models import RunConfig
from vlmprompt.data.images import read_image
from vlmprompt.data.load import load_dataset
from vlmprompt.errors import InputError, Interrupted, UsageError
from vlmprompt.methods import passes
from vlmprompt.methods.coop import CoOp
from vlmprompt.methods.output import MethodOutput
from vlmprompt.training import checkpoint, validation
from vlmprompt.training.run import TrainResult, train
from vlmprompt.training.runs import load_run
from vlmprompt.training.validation import Validation

Go = Callable[..., TrainResult]


@pytest.fixture(scope="module")
def with_val(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("val") / "photos", splits={"train": 3, "val": 4, "test": 1})


@pytest.fixture
def go(tiny_backbone: Backbone, tmp_path: Path) -> Go:
    def act(settings: RunConfig, **arguments: Any) -> TrainResult:
        return train(settings, runtime(tmp_path / "runs"), backbone=tiny_backbone, **arguments)

    return act


class Killed(BaseException):
    """Ends a run between two instructions."""


class Counting(CoOp):
    """CoOp that knows how many epochs it has been trained for."""

    epochs_done: Tensor

    def create(self) -> None:
        super().create()
        self.register_buffer("epochs_done", torch.zeros((), dtype=torch.int64))

    def end_epoch(self, epoch: int, epochs: int) -> None:
        self.epochs_done += 1


class Infinite(CoOp):
    """CoOp whose logits of new images overflow."""

    def classify(self, features: ImageFeatures, text: TextFeatures, **method_options: Any) -> MethodOutput:
        output = super().classify(features, text)
        if not self.training:
            output.logits[-1, 0] = torch.nan
        return output


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[list[float]], None]]:
    """Make the method "counting" have given accuracies after its epochs."""

    def script(accuracies: list[float]) -> None:
        def accuracy(self: Validation, stop: Callable[[], bool]) -> float:
            return accuracies[int(self.method.epochs_done) - 1]  # type: ignore[call-overload]

        monkeypatch.setattr(Validation, "accuracy", accuracy)

    with registered("counting", Counting, module="tests.training.test_validation"):
        yield script


def measured(run: Path) -> list[tuple[int, float, bool]]:
    return [(line["epoch"], line["val_accuracy"], line["best"]) for line in log_lines(run) if "val_accuracy" in line]


def tensors(run: Path) -> dict[str, Tensor]:
    return load_file(run / "checkpoint.safetensors")


# -- the number --------------------------------------------------------------------------------------
def test_it_is_the_share_of_right_images(go: Go, with_val: Path, tiny_backbone: Backbone) -> None:
    """By hand: the finished run's prompts on the validation images, one after the other."""
    result = go(config(with_val, epochs=4, validate_every=2, views=1, lr=0.05))
    run = load_run(result.run)
    method = run.build_method(tiny_backbone)
    transform = tiny_backbone.transform(train=False)
    records = load_dataset(run.config.data).split("val")
    chosen = [record for record in records if record.id in run.info.data.val_ids]
    with torch.no_grad():
        right = [int(method(transform(read_image(r))[None]).logits.argmax()) == r.label for r in chosen]
    assert len(right) == 12 and result.metrics["val_accuracy"] == sum(right) / 12
    assert [epoch for epoch, _, _ in measured(result.run)] == [2, 4]
    assert run.info.kept is not None and run.info.kept.val_images == 12
    assert measured(result.run)[-1][1] == result.metrics["val_accuracy"]


@pytest.mark.parametrize("method", ["coop", "cocoop", "plot"])
def test_features_computed_once_give_what_images_give(
    go: Go, with_val: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    options = {"n_ctx": 2, "ctx_init": None} if method == "cocoop" else {}
    changes = {"epochs": 2, "validate_every": 1, "keep": "best", "views": 1, "eval_batch_size": 5, **options}
    settings = config(with_val, method=method, **changes)
    calls = 0

    def counted(*args: Any, **named: Any) -> Any:
        batches = passes.repeated_batches(*args, **named)

        def one_pass() -> Any:
            nonlocal calls
            calls += 1
            return batches()

        return one_pass

    monkeypatch.setattr(validation, "repeated_batches", counted)
    cached = go(settings, out=tmp_path / "cached").run
    assert calls == 0
    monkeypatch.setattr(validation, "KEPT_BYTES", 0)
    live = go(settings, out=tmp_path / "live").run
    assert calls == 2
    assert measured(cached) == measured(live)
    assert (cached / "checkpoint.safetensors").read_bytes() == (live / "checkpoint.safetensors").read_bytes()


def test_a_method_through_the_image_tower(go: Go, with_val: Path) -> None:
    run = go(config(with_val, method="bloom", epochs=2, validate_every=1)).run
    assert [epoch for epoch, _, _ in measured(run)] == [1, 2]


@pytest.mark.parametrize("changes", [{}, {"views": 2}, {"method": "bloom"}], ids=str)
def test_measuring_changes_nothing_that_is_learned(
    go: Go, with_val: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    with registered("noisy", Noisy):
        settings = {"method": "noisy", **changes}
        plain = go(config(with_val, **settings), out=tmp_path / "plain").run
        validated = go(config(with_val, **settings, validate_every=1), out=tmp_path / "validated").run
    ours, theirs = tensors(validated), tensors(plain)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    for line, other in zip(log_lines(validated), log_lines(plain), strict=True):
        assert {k: v for k, v in line.items() if k not in ("val_accuracy", "best")} == other


def test_progress_shows_it(go: Go, with_val: Path) -> None:
    progress = Hooked()
    result = go(config(with_val, validate_every=3), progress=progress)
    assert progress.fields == {"val": result.metrics["val_accuracy"]}
    assert result.kept is not None and result.kept.words.startswith("the last state, after epoch 3 of 3: ")


# -- what is kept ------------------------------------------------------------------------------------
def test_the_best_is_kept_and_of_equal_ones_the_first(
    go: Go, with_val: Path, scripted: Callable[[list[float]], None], tiny_backbone: Backbone
) -> None:
    scripted([0.25, 0.75, 0.5, 0.75, 0.5])
    settings = config(with_val, method="counting", epochs=5, validate_every=1, keep="best")
    run = load_run(go(settings).run)
    assert measured(run.path) == [(1, 0.25, True), (2, 0.75, True), (3, 0.5, False), (4, 0.75, False), (5, 0.5, False)]
    kept = run.info.kept
    assert kept is not None
    assert (kept.state, kept.epoch, kept.epochs, kept.planned, kept.val_accuracy) == ("best", 2, 5, 5, 0.75)
    assert run.info.metrics["val_accuracy"] == 0.75 and run.info.steps == 15
    method = run.build_method(tiny_backbone)
    assert int(method.epochs_done) == 2  # type: ignore[call-overload]
    assert set(tensors(run.path)) == {"ctx", "epochs_done", "rng/method"}
    card = (run.path / "MODEL_CARD.md").read_text()
    assert "| state | the best state, after epoch 2 of 5: 75.00% of 12 validation images right |" in card
    assert "| val_accuracy | 75.00% |" in card and "may have been chosen" in card


def test_the_last_is_kept_by_default(go: Go, with_val: Path, scripted: Callable[[list[float]], None]) -> None:
    scripted([0.75, 0.5, 0.25])
    run = load_run(go(config(with_val, method="counting", validate_every=1)).run)
    assert run.info.kept is not None
    assert (run.info.kept.state, run.info.kept.epoch, run.info.kept.val_accuracy) == ("last", 3, 0.25)
    plain = load_run(go(config(with_val, seed=2)).run)
    assert plain.info.kept is not None and plain.info.kept.words == ""
    assert "val_accuracy" not in plain.info.metrics and "| state |" not in (plain.path / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize(
    ("accuracies", "patience", "every", "epochs"),
    [
        ([0.5, 0.6, 0.6, 0.55, 0.9, 0.9], 2, 1, 4),  # equal is no better
        ([0.5, 0.6, 0.6, 0.7, 0.6, 0.5], 2, 1, 6),  # stopped by the last one: all epochs were run
        ([0.5, 0.4, 0.9, 0.9, 0.9, 0.9], 1, 2, 6),  # 0.4, 0.9, 0.9 are measured
        ([0.5, 0.4, 0.3, 0.3, 0.9, 0.9], 1, 2, 4),
        ([0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 3, 1, 4),
    ],
)
def test_patience(
    go: Go,
    with_val: Path,
    scripted: Callable[[list[float]], None],
    accuracies: list[float],
    patience: int,
    every: int,
    epochs: int,
) -> None:
    scripted(accuracies)
    run = load_run(go(config(with_val, method="counting", epochs=6, validate_every=every, patience=patience)).run)
    kept = run.info.kept
    assert kept is not None and (kept.state, kept.epoch, kept.epochs, kept.planned) == ("last", epochs, epochs, 6)
    assert run.info.steps == 3 * epochs
    assert ("stopped early of 6 planned" in kept.words) == (epochs < 6)
    lrs = {line["epoch"]: line["lr"] for line in log_lines(run.path)}
    assert lrs[2] == 0.02 and lrs[4] == pytest.approx(0.015)  # (1 + cos(pi 2/6)) / 2: of six epochs


# -- interrupted -------------------------------------------------------------------------------------
@pytest.mark.long
def test_early_stopping_survives_a_death_at_any_checkpoint(
    go: Go,
    with_val: Path,
    scripted: Callable[[list[float]], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed at every write of a checkpoint in turn, also the one that ends the run in its best state."""
    scripted([0.5, 0.75, 0.75, 0.25, 0.9])
    settings = config(with_val, method="counting", views=1, epochs=5, validate_every=1, keep="best", patience=2)
    whole = go(settings, out=tmp_path / "whole").run
    real = checkpoint.write_atomic
    nth = died = 0
    while died == nth:
        nth += 1
        written = 0

        def dying(path: Path, content: bytes, *, make_folder: bool, nth: int = nth) -> None:
            nonlocal written
            written += 1
            real(path, content, make_folder=make_folder)
            if written == nth:
                raise Killed

        out = tmp_path / f"run{nth}"
        with monkeypatch.context() as patched:
            patched.setattr(checkpoint, "write_atomic", dying)
            try:
                go(settings, out=out)
            except Killed:
                died += 1
        go(settings, out=out, resume=True)
        assert (out / "checkpoint.safetensors").read_bytes() == (whole / "checkpoint.safetensors").read_bytes()
        assert log_lines(out) == log_lines(whole)
        assert load_run(out).info.kept == load_run(whole).info.kept
    assert nth > 4 * 3  # two checkpoints within each of four epochs, one at their end, one at the run's


def test_ctrl_c_while_measuring_loses_no_step(
    go: Go, with_val: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with registered("noisy", Noisy):
        settings = config(with_val, method="noisy", validate_every=1, keep="best", checkpoint_every=50)
        whole = go(settings, out=tmp_path / "whole").run
        real, times = Validation.accuracy, 0

        def interrupted(self: Validation, stop: Callable[[], bool]) -> float | None:
            nonlocal times
            times += 1
            if times == 2:
                os.kill(os.getpid(), signal.SIGINT)
            return real(self, stop)

        with monkeypatch.context() as patched, pytest.raises(Interrupted, match="stopped after step 6 of 9"):
            patched.setattr(Validation, "accuracy", interrupted)
            go(settings, out=tmp_path / "run")
        progress = Hooked()
        run = go(settings, out=tmp_path / "run", resume=True, progress=progress).run
    assert progress.steps == 3
    assert (run / "checkpoint.safetensors").read_bytes() == (whole / "checkpoint.safetensors").read_bytes()
    assert log_lines(run) == log_lines(whole)


# -- what cannot be had ------------------------------------------------------------------------------
def test_no_validation_images(go: Go, photos: Path) -> None:
    words = r"validate_every = 1 needs validation images.*all train images are trained"
    with pytest.raises(InputError, match=words) as e:
        go(config(photos, shots=None, validate_every=1))
    assert "--shots" in str(e.value.hint)
    with pytest.raises(InputError, match="no train images are left"):
        go(config(photos, shots=5, validate_every=1))


def test_classes_without_a_validation_image_are_told(go: Go, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", splits={"train": 3, "val": 1, "test": 1})
    shutil.rmtree(photos / "val" / CLASSES[0])
    progress = Hooked()
    go(config(photos, validate_every=1), progress=progress)
    assert any("1 classes have no validation image" in text and "'red fox'" in text for text in progress.warnings)


def test_logits_that_are_no_numbers_stop_the_run_and_name_the_image(go: Go, with_val: Path, tmp_path: Path) -> None:
    with (
        registered("infinite", Infinite, module="tests.training.test_validation"),
        pytest.raises(InputError, match=r"logits of validation image val/\S.*3?\.png are not finite"),
    ):
        go(config(with_val, method="infinite", validate_every=1), out=tmp_path / "run")
    assert load_run(tmp_path / "run").info.status == "failed"


def test_a_method_that_is_made_at_its_end(go: Go, with_val: Path) -> None:
    for changes, asked in (({"keep": "best"}, "keep = best"), ({"patience": 2}, "patience = 2")):
        settings = config(with_val, validate_every=1, **changes)
        with pytest.raises(UsageError, match=f"{asked} cannot be used with method 'promptsrc'"):
            go(settings.model_copy(update={"method": "promptsrc", "options": {}}))

"""What a run does and leaves behind."""

from __future__ import annotations

import errno
import json
import os
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from tests.training import material
from tests.training.material import (
    CLASSES,
    STEPS,
    Exploding,
    Hooked,
    Noisy,
    config,
    log_lines,
    make_photos,
    registered,
    runtime,
)
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.models import RunConfig
from vlmprompt.data.fewshot import sample
from vlmprompt.data.load import load_dataset
from vlmprompt.errors import InputError, UsageError
from vlmprompt.methods.build import build_method
from vlmprompt.training.batches import epoch_generator
from vlmprompt.training.run import TrainResult, train
from vlmprompt.training.run_info import RunInfo
from vlmprompt.training.runs import load_run


@pytest.fixture
def go(tiny_backbone: Backbone, tmp_path: Path) -> Any:
    """Train in a folder of runs of the test's own."""

    def act(settings: RunConfig, **arguments: Any) -> TrainResult:
        return train(settings, runtime(tmp_path / "runs"), backbone=tiny_backbone, **arguments)

    return act


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoint.safetensors")


# -- the loop against a plain one --------------------------------------------------------------------
def test_equals_a_plain_loop_with_torchs_own_parts(go: Any, photos: Path, tiny_backbone: Backbone) -> None:
    """Deterministic features, torch's SGD, the published schedule written out, an order drawn the same way."""
    settings = config(photos, views=1, seed=5, warmup_epochs=1, epochs=4, lr=0.05)
    run = go(settings).run
    records = sample(load_dataset(settings.data), 3, 5).train
    transform = tiny_backbone.transform(train=False)
    images = torch.stack([transform(_open(record.image)) for record in records])
    labels = torch.tensor([record.label for record in records])
    features = F.normalize(tiny_backbone.encode_image(images).global_Bd, dim=-1)
    names = load_dataset(settings.data).class_names
    method = build_method("coop", tiny_backbone, names, {"n_ctx": 2}, generator=torch.Generator().manual_seed(5))
    optimizer = torch.optim.SGD([method.ctx], lr=1.0, momentum=0.9, weight_decay=5e-4)
    lines = []
    for epoch, lr in enumerate([1e-5, 0.05, 0.05 * 0.8535533905932737, 0.025]):  # (1 + cos(pi/4)) / 2 = 0.853..
        optimizer.param_groups[0]["lr"] = lr
        order = torch.randperm(len(records), generator=epoch_generator(5, epoch))
        for rows in order.split(4):
            texts = F.normalize(method.encode_text().features_PKd[0], dim=-1)
            logits = tiny_backbone.scale * features[rows] @ texts.T
            loss = F.cross_entropy(logits, labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            lines.append((lr, loss.item(), (logits.argmax(1) == labels[rows]).float().mean().item()))
    assert torch.allclose(weights(run)["ctx"], method.ctx.detach(), rtol=1e-3, atol=1e-4)
    logged = [line for line in log_lines(run) if "epoch_end" not in line]
    assert [line["lr"] for line in logged] == pytest.approx([lr for lr, _, _ in lines])
    assert [line["loss"] for line in logged] == pytest.approx([loss for _, loss, _ in lines], rel=1e-4)
    assert [line["accuracy"] for line in logged] == pytest.approx([accuracy for _, _, accuracy in lines])


def _open(path: Any) -> Any:
    from PIL import Image

    return Image.open(path).convert("RGB")


def test_learns(go: Any, photos: Path) -> None:
    """One-colour images told apart by a random tower: the loss falls, the accuracy rises."""
    settings = config(photos, views=1, epochs=30, lr=0.01, optimizer="adamw", n_ctx=4, class_specific=True)
    run = go(settings).run
    epochs = [line for line in log_lines(run) if "epoch_end" in line]
    assert epochs[-1]["loss"] < 0.3 * epochs[0]["loss"] and epochs[-1]["accuracy"] >= 0.9
    assert load_run(run).info.metrics["train_accuracy"] == epochs[-1]["accuracy"]


@pytest.mark.parametrize("changes", [{}, {"views": 2}, {"optimizer": "adamw"}, {"method": "noisy"}], ids=str)
def test_same_seed_same_bytes_and_towers_untouched(
    go: Any, photos: Path, tmp_path: Path, tiny_backbone: Backbone, changes: dict[str, Any]
) -> None:
    before = tiny_backbone.digest
    with registered("noisy", Noisy):
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            go(config(photos, seed=seed, **changes), out=tmp_path / name)
    a, b, c = ((tmp_path / name / "checkpoint.safetensors").read_bytes() for name in "abc")
    assert a == b != c
    del tiny_backbone.__dict__["digest"]  # computed once; compute it anew
    assert tiny_backbone.digest == before


def test_workers_change_nothing(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    many = make_photos(tmp_path / "photos", splits={"train": 18, "test": 1})
    settings = config(many, shots=18, batch_size=8, epochs=2)
    found = []
    for workers in (0, 2):
        place = runtime(tmp_path).model_copy(update={"workers": workers})
        run = train(settings, place, out=tmp_path / f"w{workers}", backbone=tiny_backbone).run
        found.append((run / "checkpoint.safetensors").read_bytes())
    assert found[0] == found[1]


def test_seconds_and_images_per_second(go: Any, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    for module in ("run", "log"):
        monkeypatch.setattr(f"vlmprompt.training.{module}.time", SimpleNamespace(perf_counter=lambda: clock.now))

    def a_quarter(step: int) -> None:
        clock.now += 0.25

    metrics = go(config(photos), progress=Hooked(a_quarter)).metrics
    assert metrics["seconds"] == STEPS * 0.25
    assert metrics["images_per_s"] == 4 / 0.25


# -- what is written ---------------------------------------------------------------------------------
def test_folder(go: Any, photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    settings = config(photos)
    result = go(settings, sources={"train.lr": "--lr"})
    assert result.run == tmp_path / "runs" / "coop-photos-tiny-vit-3shot-seed1"
    files = ["MODEL_CARD.md", "checkpoint.safetensors", "log.csv", "log.jsonl", "run.json"]
    assert sorted(p.name for p in result.run.iterdir()) == files
    info = load_run(result.run).info
    assert (info.status, info.steps, info.config, info.error) == ("finished", STEPS, settings, None)
    assert info.sources == {"train.lr": "--lr"} and info.trainable_parameters == 2 * 64
    assert info.class_names == tuple(sorted(name.replace("_", " ") for name in CLASSES))
    assert info.backbone.digest == tiny_backbone.digest and info.device == "cpu"
    assert {"python", "torch", "open_clip", "vlmprompt"} <= info.versions.keys() and info.peak_memory["rss"] > 1e8
    expected = sample(load_dataset(settings.data), 3, 1)
    assert info.data.train_ids == tuple(r.id for r in expected.train)
    assert result.metrics.keys() == {"loss", "train_accuracy", "steps", "seconds", "images_per_s"}
    assert set(weights(result.run)) == {"ctx", "optimizer/ctx/momentum_buffer", "rng/method"}
    last = log_lines(result.run)[-1]
    assert last["epoch_end"] and last["step"] == STEPS and last["loss"] == result.metrics["loss"]


def test_model_card(go: Any, photos: Path) -> None:
    card = (go(config(photos)).run / "MODEL_CARD.md").read_text()
    for text in ("`coop`", "red fox", "12: 3 images a class", "load_run", "vlmprompt evaluate", "## Limits"):
        assert text in card
    assert "random" not in card.replace("random.Random", "")


def test_random_weights_are_confessed(photos: Path, tmp_path: Path, tiny_model: torch.nn.Module) -> None:
    import open_clip

    from vlmprompt.backbones.backbone import Identity

    identity = Identity("tiny-vit", random_weights=3)
    towers = Backbone.from_model(tiny_model, open_clip.SimpleTokenizer(), identity=identity)
    result = train(config(photos, random_weights=3), runtime(tmp_path), backbone=towers)
    assert result.run.name == "coop-photos-tiny-vit-random3-3shot-seed1"
    card = (result.run / "MODEL_CARD.md").read_text()
    assert "RANDOM weights (seed 3)" in card and card.count("mean nothing") == 2


def test_progress_shows_loss_and_accuracy(go: Any, photos: Path) -> None:
    progress = Hooked()
    go(config(photos), progress=progress)
    assert progress.steps == STEPS and progress.fields.keys() == {"epoch", "loss", "acc"}
    assert progress.fields["epoch"] == "3/3"


# -- methods without a loop --------------------------------------------------------------------------
def test_zero_shot_is_recorded_without_a_step(go: Any, tmp_path: Path) -> None:
    only_test = make_photos(tmp_path / "photos", splits={"train": 1, "test": 1})
    result = go(config(only_test, method="zeroshot", shots=16))
    info = load_run(result.run).info
    assert info.steps == 0 and info.data.train_ids == () and not (result.run / "log.jsonl").exists()
    assert result.metrics.keys() == {"steps", "seconds"}
    assert "Nothing was trained" in (result.run / "MODEL_CARD.md").read_text()


def test_linear_probe_draws_its_validation_from_the_remaining_images(go: Any, photos: Path) -> None:
    settings = config(photos, method="linear_probe", shots=3, seed=4)
    result = go(settings)
    info = load_run(result.run).info
    dataset = load_dataset(settings.data)
    taken = {r.id for r in sample(dataset, 3, 4).train}
    rng = random.Random(4)
    expected: list[str] = []
    for label in range(4):  # min(3, 4) shots, but only two of the five images remain
        rest = [r.id for r in dataset.split("train") if r.label == label and r.id not in taken]
        expected += rng.sample(rest, 2)
    assert list(info.data.val_ids) == expected and "random.Random(4)" in info.data.val_source
    assert "on 8 validation images" in info.fit["C_source"] and result.metrics["train_accuracy"] == 1.0
    assert weights(result.run)["weight"].shape == (4, 32)


def test_linear_probe_with_no_image_left_and_with_a_val_split(go: Any, photos: Path, tmp_path: Path) -> None:
    whole = load_run(go(config(photos, method="linear_probe", shots=5)).run).info
    assert whole.fit["C"] == 0.316 and whole.data.val_ids == () and "no train images are left" in whole.data.val_source
    every = load_run(go(config(photos, method="linear_probe", shots=None)).run).info
    assert every.data.val_ids == () and every.name == "linear_probe-photos-tiny-vit-allshots-seed1"
    with_val = make_photos(tmp_path / "with_val", splits={"train": 3, "val": 6, "test": 1})
    chosen = load_run(go(config(with_val, method="linear_probe", shots=2)).run).info
    assert chosen.data.val_source == "val split" and len(chosen.data.val_ids) == 4 * 2
    assert all(name.startswith("val/") for name in chosen.data.val_ids)


# -- settings ----------------------------------------------------------------------------------------
def test_base_to_new_samples_first_and_then_restricts(go: Any, photos: Path) -> None:
    run = load_run(go(config(photos, setting="base-to-new")).run)
    whole = sample(load_dataset(run.config.data), 3, 1)
    assert run.path.name.endswith("-seed1-base-to-new")
    assert run.info.data.labels == (0, 1) and run.class_names == load_dataset(run.config.data).class_names[:2]
    assert run.info.data.train_ids == tuple(r.id for r in whole.train if r.label < 2)
    assert "(the base half of 4)" in (run.path / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "fresh augmentation"),
        ({"augment": False}, "the test transform"),
        ({"views": 1}, "one deterministic view"),
        ({"views": 3}, "3 recorded random views"),
        ({"method": "zeroshot"}, "no training images"),
        ({"method": "linear_probe"}, "one deterministic view"),
    ],
    ids=str,
)
def test_run_json_says_how_images_were_read(go: Any, photos: Path, changes: dict[str, Any], words: str) -> None:
    assert words in load_run(go(config(photos, **changes)).run).info.features


def test_views_with_a_method_that_cannot(go: Any, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"views = 2 .*trains through the image tower"):
        go(config(photos, method="bloom", views=2))
    with registered("careless", material.Careless), pytest.raises(UsageError, match="does not say that it can"):
        go(config(photos, method="careless", views=1))
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())


def test_max_steps_bounds_the_schedule(go: Any, photos: Path) -> None:
    run = go(config(photos, epochs=50, max_steps=4, warmup_epochs=0)).run
    steps = [line for line in log_lines(run) if "epoch_end" not in line]
    assert [line["lr"] for line in steps] == pytest.approx([0.02, 0.02, 0.02, 0.01])  # 2 epochs
    with pytest.raises(UsageError, match="0 steps"):
        go(config(photos, max_steps=0, seed=2))
    assert go(config(photos, max_steps=0, method="zeroshot")).metrics["steps"] == 0


def test_warnings(go: Any, photos: Path) -> None:
    progress = Hooked()
    go(config(photos, epochs=1), progress=progress)
    assert "the whole run (1 of 1 epoch of warm-up) is at the rate" in progress.warnings[0]
    progress = Hooked()
    go(config(photos, method="linear_probe", views=3), progress=progress)
    assert "no effect" in progress.warnings[0]


# -- what is there already ---------------------------------------------------------------------------
def test_a_finished_run_is_not_repeated(go: Any, photos: Path) -> None:
    first = go(config(photos))
    progress = Hooked()
    stamp = (first.run / "run.json").stat().st_mtime_ns
    assert go(config(photos), progress=progress) == first and go(config(photos), resume=True) == first
    assert progress.steps == 0 and "already done" in progress.messages[0]
    assert (first.run / "run.json").stat().st_mtime_ns == stamp
    (first.run / "results.jsonl").write_text("kept\n")
    assert go(config(photos), force=True, progress=progress).run == first.run and progress.steps == STEPS
    assert (first.run / "results.jsonl").read_text() == "kept\n"


def test_a_finished_run_of_another_version_is_told(go: Any, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = go(config(photos))
    progress = Hooked()
    go(config(photos), progress=progress)
    assert progress.warnings == []
    made_with = RunInfo.read(first.run).versions["vlmprompt"]
    monkeypatch.setattr("vlmprompt.training.provenance.code_version", lambda name: "9.9")
    assert go(config(photos), progress=progress) == first
    assert f"was made with vlmprompt {made_with} (now 9.9)" in progress.warnings[0]
    assert "--force" in progress.warnings[0]


def test_another_run_in_the_folder_is_named(go: Any, photos: Path) -> None:
    first = go(config(photos))
    with pytest.raises(InputError, match=r"another configuration: train\.lr \(0\.02 -> 0\.3\)$") as error:
        go(config(photos, lr=0.3))
    assert "--out" in str(error.value.hint) and "--force" in str(error.value.hint)
    assert go(config(photos, lr=0.3), force=True).run == first.run
    assert load_run(first.run).config.train.lr == 0.3


def test_changed_data_are_named(go: Any, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", splits={"train": 4, "test": 2})
    go(config(photos))
    (photos / "test" / CLASSES[0] / "0.png").rename(photos / "test" / CLASSES[0] / "other.png")
    os.utime(photos / "train" / CLASSES[0] / "0.png", ns=(1, 1))
    go(config(photos))  # neither changes what is learned
    for image in (photos / "train" / CLASSES[0]).iterdir():
        image.write_bytes(image.read_bytes() + b"more")
    with pytest.raises(InputError, match="has changed since the run"):
        go(config(photos))


def test_a_folder_of_something_else_is_left_alone(go: Any, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    with pytest.raises(InputError, match="is not empty"):
        go(config(photos), out=tmp_path / "mine")
    go(config(photos), out=tmp_path / "mine", force=True)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years"


def test_nothing_to_resume_is_said(go: Any, photos: Path) -> None:
    progress = Hooked()
    go(config(photos), resume=True, progress=progress)
    assert any("nothing to resume" in text for text in progress.messages) and progress.steps == STEPS


def test_damaged_run_json(go: Any, photos: Path) -> None:
    run = go(config(photos)).run
    (run / "run.json").write_text('{"name": "half')
    with pytest.raises(InputError, match=r"run\.json is damaged"):
        go(config(photos))
    go(config(photos), force=True)


# -- what goes wrong ---------------------------------------------------------------------------------
def test_unwritable_folder_before_any_work(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write") as error:  # no backbone of that name could be loaded
        train(config(photos, backbone="none"), runtime(tmp_path / "file" / "runs"))
    assert "\n" not in error.value.message and "--out" in str(error.value.hint)


def test_a_disk_that_fills_up(go: Any, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (go(config(photos), out=None).run / "checkpoint.safetensors").read_bytes()
    sync = os.fsync

    def full(step: int) -> None:
        if step == 5:
            monkeypatch.setattr(os, "fsync", refuse)

    def refuse(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError, match="No space left"):
        go(config(photos), force=True, progress=Hooked(full))
    monkeypatch.setattr(os, "fsync", sync)
    run = go(config(photos), resume=True).run
    assert (run / "checkpoint.safetensors").read_bytes() == whole


@pytest.mark.parametrize(
    ("gradient_only", "what"), [(False, "the loss is nan"), (True, "a parameter has become NaN or infinite")]
)
def test_nan_names_the_batch_and_keeps_the_last_good_state(
    go: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gradient_only: bool, what: str
) -> None:
    monkeypatch.setattr(Exploding, "gradient_only", gradient_only)
    with registered("exploding", Exploding):
        with pytest.raises(InputError, match=rf"{what} at step 5 \(epoch 2\), with images train/") as error:
            go(config(photos, method="exploding"), out=tmp_path / "run")
        run = load_run(tmp_path / "run")
    last = log_lines(run.path)[-1]
    assert run.info.status == "failed" and run.info.error == error.value.message
    assert len(last["images"]) == 4 and all(name in error.value.message for name in last["images"])
    kept = weights(run.path)
    assert torch.isfinite(kept["ctx"]).all() and kept["ctx"].abs().sum() > 0
    assert "NaN" not in (run.path / "log.jsonl").read_text().replace("become NaN or", "")


def test_a_broken_image_is_named(go: Any, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", splits={"train": 3, "test": 1})
    broken = photos / "train" / CLASSES[0] / "1.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(InputError, match=r"1\.png"):
        go(config(photos), out=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


def test_unknown_method_and_option(go: Any, photos: Path) -> None:
    settings = config(photos)
    with pytest.raises(UsageError, match="unknown method 'cop'"):
        go(settings.model_copy(update={"method": "cop"}))
    with pytest.raises(UsageError, match="no option 'n_ctz'"):
        go(settings.model_copy(update={"options": {"n_ctz": 3}}))

"""The dry run: its numbers by hand, and that it writes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.training.material import config, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.models import TrainConfig
from vlmprompt.errors import InputError, UsageError
from vlmprompt.progress import SilentProgress
from vlmprompt.training.dry_run import _flops, dry_run, report_lines
from vlmprompt.training.saved_bytes import SavedBytes


def test_report(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    report = dry_run(config(photos, epochs=5), runtime(tmp_path / "runs"), backbone=tiny_backbone)
    assert report["shapes"] == {
        "images": [4, 3, 32, 32],
        "features.global": [4, 32],
        "text_features": [1, 4, 32],
        "logits": [4, 4],
    }
    assert report["parameters"] == {"tensors": {"ctx": [2, 64]}, "total": 128, "groups": {}}
    plan = {"epochs": 5, "steps_per_epoch": 3, "steps": 15, "batch_size": 4, "first_lr": 1e-5}
    plan |= {"warmup_epochs": 1, "warmup_steps": 3, "schedule": "cosine"}
    assert {key: report["plan"][key] for key in plan} == plan
    assert report["plan"]["last_lr"] == pytest.approx(0.01 * (1 + 0.30901699 * -1))  # cos(3 pi / 5)
    assert report["flops"]["step"] == pytest.approx(report["flops"]["image"] + report["flops"]["text"], rel=0.01)
    assert report["memory"]["activations"] > 0 and report["memory"]["rss"] > 1e8
    assert report["seconds"]["total"] == pytest.approx(15 * report["seconds"]["step"])
    assert report["cache"] is None and report["data"]["train_images"] == 12
    json.dumps(report, allow_nan=False)
    lines = "\n".join(report_lines(report))
    assert "ctx (2, 64)" in lines and "15 steps: 5 epochs of 3 steps" in lines
    assert "rate      1e-05 for 1 epoch of warm-up (3 steps, 20%), then cosine from 0.02 to 0.00691" in lines
    assert not (tmp_path / "runs").exists()


def test_max_steps_that_are_not_reached(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    progress = SilentProgress()
    settings = config(photos, epochs=20, max_steps=400, validate_every=5)
    report = dry_run(settings, runtime(tmp_path), progress=progress, backbone=tiny_backbone)
    why = "max_steps = 400 is not reached in 20 epochs of 3 steps (60 in all); --epochs 134 would reach it"
    assert report["plan"]["steps"] == 60 and progress.warnings == [why]
    assert why in report["plan"]["in_words"]["plan"] and "val       4 measurements;" in "\n".join(report_lines(report))
    shipped = {f"train.{name}": "override x:y.toml" for name in TrainConfig.model_fields}
    quiet = SilentProgress()
    dry_run(settings, runtime(tmp_path), progress=quiet, sources=shipped, backbone=tiny_backbone)
    assert quiet.warnings == []


def test_image_flops_by_hand(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    """4 images of 16 patches: 17 tokens, 3 blocks of width 96; the last one is read at the class token alone."""
    flops = dry_run(config(photos), runtime(tmp_path), backbone=tiny_backbone)["flops"]
    tokens, width = 17, 96
    block = 2 * tokens * 12 * width**2 + 2 * 2 * tokens**2 * width  # 12 C^2 multiply-adds a token, and attention
    last = 2 * (2 * tokens + 10) * width**2 + 2 * 2 * tokens * width  # keys and values of all, the rest of one
    ends = 2 * 16 * (3 * 8 * 8) * width + 2 * width * 32
    assert flops["image"] == pytest.approx(4 * (2 * block + last + ends), rel=0.01)


def test_with_cached_features_no_image_is_encoded_in_a_step(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    report = dry_run(config(photos, views=2), runtime(tmp_path), backbone=tiny_backbone)
    assert report["flops"]["image"] == 0 and report["cache"] == 2 * 12 * 32 * 4
    assert report["flops"]["step"] < dry_run(config(photos), runtime(tmp_path), backbone=tiny_backbone)["flops"]["step"]
    seconds = report["seconds"]
    assert seconds["total"] == pytest.approx(seconds["features"] + 9 * seconds["step"]) and seconds["features"] > 0


@pytest.mark.parametrize("method", ["zeroshot", "linear_probe"])
def test_methods_without_a_loop(photos: Path, tiny_backbone: Backbone, tmp_path: Path, method: str) -> None:
    report = dry_run(config(photos, method=method), runtime(tmp_path), backbone=tiny_backbone)
    assert report["plan"]["steps"] == 0 and report["parameters"]["total"] == 0
    assert ("text_features" in report["shapes"]) == (method == "zeroshot")
    assert report_lines(report)


def test_errors_of_train_are_those_of_the_dry_run(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="0 steps"):
        dry_run(config(photos, max_steps=0), runtime(tmp_path), backbone=tiny_backbone)
    with pytest.raises(InputError, match="fewer than 9 train images"):
        dry_run(config(photos, shots=9), runtime(tmp_path), backbone=tiny_backbone)


def test_saved_bytes_and_flops_of_a_known_layer() -> None:
    """y = relu(x W^T + b): backward needs x for W's gradient and the output for relu's; W itself is a weight."""
    layer = nn.Linear(10, 6)
    x = torch.randn(5, 10)
    saved = SavedBytes()
    with saved.counting():
        torch.relu(layer(x)).sum()
    assert saved.total == 4 * (5 * 10 + 5 * 6)
    assert _flops(lambda: layer(x)) == 2 * 5 * 10 * 6 * 2  # forward, and the weight's gradient

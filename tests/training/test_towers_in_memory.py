"""Towers in memory are recorded as they were loaded: a run trained on them finds the same again, and no others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from tests.backbones.image_towers import JOINT, image_tower
from tests.backbones.text_kinds import TINY_VISION
from vlmprompt.api import Backbone, Run, Runtime, UsageError, evaluate_method, load_backbone, load_run, train
from vlmprompt.backbones.openclip.image_size import resize_input
from vlmprompt.errors import InputError

QUICK: dict[str, Any] = {"max_steps": 1, "batch_size": 4, "warmup_epochs": 0, "shots": 2}
SMALL_TEXT = {"context_length": 77, "width": 32, "heads": 1, "layers": 1}

pytestmark = pytest.mark.filterwarnings("ignore:the run ends at the rate")


@pytest.fixture
def here(tmp_path: Path) -> Runtime:
    return Runtime(device="cpu", workers=0, runs_dir=tmp_path / "runs")


def trained(photos: Path, towers: Backbone, here: Runtime, method: str = "coop", **changes: Any) -> Run:
    return train(method, f"folder:{photos}", towers, runtime=here, **({} if method == "zeroshot" else QUICK) | changes)


@pytest.mark.parametrize(
    ("method", "loaded"),
    [
        ("coop", {"image_size": (48, 32)}),
        ("coop", {"image_size": 40, "quick_gelu": True}),
        ("zeroshot", {"precision": "bf16"}),  # accelerate keeps one precision a process
    ],
)
def test_the_same_towers_are_loaded_again(
    method: str, loaded: dict[str, Any], photos: Path, tiny_architecture: str, here: Runtime
) -> None:
    towers = load_backbone(tiny_architecture, random_weights=3, **loaded)
    run = load_run(trained(photos, towers, here, method).path)
    again = run.load_backbone(here)
    assert again.identity == towers.identity and again.digest == towers.digest
    assert again.preprocess == towers.preprocess
    images = torch.randn(2, 3, *towers.preprocess.sides, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.encode_image(images).global_Bd, towers.encode_image(images).global_Bd)
    assert run.build_method(again)(images).logits.isfinite().all()
    for key in ("image_size", "quick_gelu", "precision"):
        source = run.info.sources["train.precision" if key == "precision" else key]
        assert source == (f"argument {key}" if key in loaded else "default")


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        (
            {"image_size": 40},
            r"image_size = 40 \(argument image_size\), but the towers in memory were loaded with 48x32",
            "load_backbone('tiny-x', image_size=40)",
        ),
        (
            {"random_weights": 4},
            r"random_weights = 4 \(argument random_weights\), but the towers in memory were loaded with 3",
            "load_backbone('tiny-x', random_weights=4)",
        ),
        (
            {"precision": "bf16"},
            r"train.precision = bf16 \(argument precision\), but .* were loaded with fp32",
            "load_backbone('tiny-x', precision='bf16')",
        ),
        (
            {"quick_gelu": True},
            r"quick_gelu = true \(argument quick_gelu\), but .* were loaded with none",
            "load_backbone('tiny-x', quick_gelu=True)",
        ),
    ],
)
def test_what_they_are_not_is_refused(
    changes: dict[str, Any], message: str, hint: str, photos: Path, tiny_architecture: str, here: Runtime
) -> None:
    towers = load_backbone(tiny_architecture, random_weights=3, image_size=(48, 32))
    with pytest.raises(UsageError, match=message) as error:
        trained(photos, towers, here, **changes)
    assert hint in str(error.value.hint)
    with pytest.raises(UsageError, match=message):
        evaluate_method("zeroshot", f"folder:{photos}", towers, runtime=here, **changes)
    assert not here.runs_dir.exists()


def test_settings_that_are_not_given_and_the_same_once_more(
    photos: Path, tiny_architecture: str, here: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    towers = load_backbone(tiny_architecture, random_weights=3, image_size=40)
    run = trained(photos, towers, here, "zeroshot", image_size=None, precision="fp32", random_weights=3)
    assert (run.config.image_size, run.config.random_weights) == (40, 3)
    assert trained(photos, towers, here, "zeroshot", image_size=(40, 40)).path == run.path  # done already
    monkeypatch.setitem(os.environ, "VLMPROMPT_TRAIN_PRECISION", "bf16")
    with pytest.raises(UsageError, match=r"precision = bf16 \(env VLMPROMPT_TRAIN_PRECISION\)"):
        trained(photos, towers, here, "zeroshot")


def test_images_of_another_size_where_no_weight_tells(photos: Path, here: Runtime) -> None:
    def convnext(side: int) -> Backbone:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = open_clip.model.CLIP(JOINT, TINY_VISION, SMALL_TEXT)
        model.visual = image_tower("convnext")
        resize_input(model, (side, side), "convnext")
        return Backbone.from_model(model, open_clip.SimpleTokenizer(), name="convnext")

    towers, larger = convnext(64), convnext(96)
    assert towers.digest == larger.digest
    run = trained(photos, towers, here, "zeroshot")
    assert run.classifier(towers) is not None
    with pytest.raises(InputError, match="trained on images of 64 x 64 pixels, and backbone 'convnext' reads 96 x 96"):
        run.classifier(larger)


def test_another_activation_where_no_weight_tells(photos: Path, tiny_architecture: str, here: Runtime) -> None:
    towers = load_backbone(tiny_architecture, random_weights=3)
    quick = load_backbone(f"{tiny_architecture}-quickgelu", random_weights=3)
    assert towers.digest == quick.digest and (towers.is_quick, quick.is_quick) == (False, True)
    run = trained(photos, towers, here, "zeroshot")
    with pytest.raises(InputError, match="without QuickGELU, and backbone 'tiny-x-quickgelu' computes with it"):
        run.build_method(quick)
    assert load_backbone(tiny_architecture, random_weights=3, quick_gelu=True).is_quick

"""MMRL on small towers: what it holds, where its tokens go, what it refuses, what it ships."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.material import config, make_photos, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import unit
from vlmprompt.config.resolve import resolve
from vlmprompt.errors import CapabilityError, InputError, UsageError
from vlmprompt.methods.build import build_method, method_config, method_type
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run

NAMES = ["cat", "red_panda", "tench, fish", "owl"]


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def options(data: str, **more: Any) -> dict[str, Any]:
    run = resolve({"method": "mmrl", "data": data, "backbone": "x", **more}, env={}).run
    return {**run.options, **run.train.model_dump()}


def test_parameters_and_their_start(tiny_backbone: Backbone) -> None:
    """All maps of a tower begin alike; by default the layers from the middle on of three: 1, 2 and 3."""
    method = build_method("mmrl", tiny_backbone, NAMES)
    shapes = {name: tuple(p.shape) for name, p in method.named_parameters()}
    maps = {f"to_text.{i}.weight": (64, 512) for i in range(3)} | {f"to_image.{i}.weight": (96, 512) for i in range(3)}
    maps |= {f"to_text.{i}.bias": (64,) for i in range(3)} | {f"to_image.{i}.bias": (96,) for i in range(3)}
    assert shapes == {"representation": (5, 512), "proj_rep": (96, 32), **maps}
    assert shapes.keys() == method.trainable_state().keys()
    for maps_J in (method.to_text, method.to_image):
        assert all(torch.equal(maps_J[0].weight, other.weight) for other in maps_J)
    state = method.trainable_state()
    assert 0.8 < float(state["proj_rep"].std() * 96**0.5) < 1.2
    assert 0.8 < float(state["representation"].std() / 0.02) < 1.2


def test_the_codes_count_of_parameters() -> None:
    """Of ViT-B/16: widths 512 and 768, layers 6 to 12, joint width 512."""
    from vlmprompt_adapters.mmrl import listed_layers

    layers = listed_layers(None, 12, 12)
    assert layers == (6, 7, 8, 9, 10, 11, 12) == listed_layers(None, 12, 24)
    maps = len(layers) * (512 * 512 + 512 + 512 * 768 + 768)
    assert 5 * 512 + maps + 768 * 512 == 4_992_256
    assert listed_layers(None, 3, 3) == (1, 2, 3) and listed_layers(None, 8, 6) == (3, 4, 5, 6)


def test_tokens_stand_where_they_are_listed(tiny_backbone: Backbone) -> None:
    method = build_method("mmrl", tiny_backbone, NAMES, {"layers": [2, 3], "n_rep": 2, "rep_dim": 8})
    text, visual = method.text_prompts(), method.visual_prompts()
    assert text is not None and set(text.inserted) == set(visual) == {1, 2}
    expected = method.representation @ method.to_image[1].weight.T + method.to_image[1].bias
    torch.testing.assert_close(visual[2], expected)
    assert not text.deep and text.ctx.shape == (1, 0, 64)


def test_a_layer_that_there_is_not(tiny_backbone: Backbone) -> None:
    with pytest.raises(UsageError, match=r"layers = \[3, 4\], but the towers have 3 \(text\) and 3 \(image\) layers"):
        build_method("mmrl", tiny_backbone, NAMES, {"layers": [3, 4]})
    for layers, told in (([1, 3], "one behind the other"), ([0, 1], "counted from 1"), ([], "one behind the other")):
        with pytest.raises(UsageError, match=told):
            build_method("mmrl", tiny_backbone, NAMES, {"layers": layers})
    with pytest.raises(UsageError, match="takes one template"):
        build_method("mmrl", tiny_backbone, NAMES, {"template": ["a {}", "the {}"]})


def test_a_resnet_is_refused_by_name(tiny_resnet: Backbone) -> None:
    with pytest.raises(CapabilityError, match=r"'mmrl' needs an image tower that takes prompt tokens \(a ViT\)"):
        build_method("mmrl", tiny_resnet, NAMES)


def test_the_text_is_that_of_the_data_set(tiny_backbone: Backbone) -> None:
    """With no tokens' influence, which is hidden here, it is CLIP's own text: of its template, or of the option's."""
    written, asked = "a centered satellite photo of {}.", "{} texture."
    for chosen, given in ((written, {}), (asked, {"template": asked})):
        method = build_method("mmrl", tiny_backbone, NAMES, given, template=written)
        assert torch.allclose(
            method.teacher_text_Kd, unit(tiny_backbone.text.encode_template(chosen, NAMES)), atol=1e-6
        )
        bare = method.text_prompts()
        assert bare is not None
        plain = tiny_backbone.text.encode(type(bare)(bare.ctx, words=bare.words), method.classes)[0]
        torch.testing.assert_close(unit(plain), method.teacher_text_Kd, atol=1e-5, rtol=0)


def test_a_loss_without_the_frozen_features_says_so(tiny_backbone: Backbone, images: Tensor) -> None:
    method = build_method("mmrl", tiny_backbone, NAMES).eval()
    with torch.no_grad():
        output = method(images)
    with pytest.raises(InputError, match="needs frozen image features"):
        method.loss(output, torch.tensor([0, 1, 2]))


def test_the_mix_is_of_cosines(tiny_backbone: Backbone, images: Tensor) -> None:
    method = build_method("mmrl", tiny_backbone, NAMES, {"alpha": 0.25}).eval()
    with torch.no_grad():
        output = method(images)
    mixed_BK = 0.25 * output.aux["class_BK"] + 0.75 * output.aux["rep_BK"]
    torch.testing.assert_close(output.logits, mixed_BK)
    assert output.global_cosines is not None
    torch.testing.assert_close(output.logits, output.scale * output.global_cosines)


@pytest.mark.parametrize(
    ("data", "setting", "weight", "epochs", "batch"),
    [
        ("folder:photos", "few-shot", 0.5, 50, 32),
        ("folder:photos", "base-to-new", 1.0, 10, 4),
        ("coop:imagenet", "base-to-new", 0.5, 5, 32),
        ("coop:stanford_cars", "few-shot", 7.0, 50, 32),
        ("coop:sun397", "base-to-new", 6.0, 10, 4),
        ("coop:imagenet", "cross-dataset", 0.2, 1, 32),
    ],
)
def test_settings_of_the_code(data: str, setting: str, weight: float, epochs: int, batch: int) -> None:
    found = options(data, setting=setting)
    assert (found["reg_weight"], found["epochs"], found["batch_size"]) == (weight, epochs, batch)
    assert (found["optimizer"], found["lr"], found["weight_decay"]) == ("adamw", 0.001, 5e-4)
    assert found["warmup_epochs"] == (0 if setting == "cross-dataset" else 1)
    assert options("coop:eurosat")["rep_dim"] == 2048


def test_a_checkpoint_of_the_code(tiny_backbone: Backbone) -> None:
    """The whole model that it saves: towers and texts beside what is learned."""
    method = build_method("mmrl", tiny_backbone, NAMES, {"layers": [2, 3], "n_rep": 2, "rep_dim": 8})
    state = method.trainable_state()
    theirs = {"representation": "compound_rep_tokens", "to_text": "compound_rep_tokens_r2tproj"}
    theirs |= {"to_image": "compound_rep_tokens_r2vproj"}
    saved = {}
    for name, tensor in state.items():
        kind, dot, rest = name.partition(".")
        known = kind in theirs
        saved[f"representation_learner.{theirs[kind]}{dot}{rest}" if known else f"image_encoder.{name}"] = tensor
    saved |= {"prompt_embeddings": torch.ones(4, 77, 64), "image_encoder.ln_post.weight": torch.ones(96)}
    read = method_type("mmrl").foreign_state({"state_dict": saved, "epoch": 5})
    assert read.options == {"n_rep": 2, "rep_dim": 8} and read.classes == 4
    assert read.state.keys() == state.keys()
    assert all(torch.equal(read.state[name], tensor) for name, tensor in state.items())
    del saved["image_encoder.proj_rep"]
    with pytest.raises(InputError, match="MMRL's code saves a tensor 'proj_rep'"):
        method_type("mmrl").foreign_state({"state_dict": saved})


def test_a_run(tiny_backbone: Backbone, tmp_path: Path) -> None:
    """Two steps through both towers; what is loaded predicts what was trained."""
    photos = make_photos(tmp_path / "photos", splits={"train": 2, "test": 1})
    options = method_config("mmrl", {"n_rep": 2}).model_dump(mode="json")
    usual = config(photos, shots=1, epochs=1, batch_size=2)
    settings = usual.model_copy(update={"method": "mmrl", "options": options})
    train(settings, runtime(tmp_path), out=tmp_path / "run", backbone=tiny_backbone)
    run = load_run(tmp_path / "run")
    assert run.info.steps == 2
    output = run.build_method(tiny_backbone).eval()(torch.randn(1, 3, 32, 32))
    torch.testing.assert_close(output.logits, 0.7 * output.aux["class_BK"] + 0.3 * output.aux["rep_BK"])

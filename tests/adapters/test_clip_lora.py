"""CLIP-LoRA: sizes, starts, options, dropout of a step, files of the official code, other classes, feature caches."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from tests.backbones.serving import image_backbone
from tests.bloom.shim import backbone_of
from vlmprompt.api import Backbone, CapabilityError, ImageNeeds, InputError, PromptMethod, UsageError, build_method
from vlmprompt.backbones.text.engine import TextEngine
from vlmprompt.config.models import RunConfig
from vlmprompt.config.overrides import override_layers
from vlmprompt.config.resolve import resolve
from vlmprompt.training.foreign import read_foreign

NAMES = ["cat", "red_panda", "tench, fish", "owl"]
LABELS = torch.tensor([0, 1, 2, 3])


def build(backbone: Backbone, **options: Any) -> PromptMethod:
    return build_method("clip_lora", backbone, NAMES, options, generator=torch.Generator().manual_seed(1))


def images() -> torch.Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def stirred(method: PromptMethod) -> PromptMethod:
    """With matrices that count."""
    g = torch.Generator().manual_seed(5)
    for parameter in method.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=g)
    return method


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 184_320),  # 12 blocks, 3 maps, 2 * 2 * (768 + 512)
        ({"encoder": "text"}, 73_728),
        ({"r": 4, "params": ["q", "v"], "encoder": "vision"}, 147_456),
        ({"params": ["o"], "position": "up"}, 20_480),
    ],
)
def test_parameter_counts_at_vit_b_16(options: dict[str, Any], expected: int) -> None:
    method = build_method("clip_lora", backbone_of(), NAMES, options)
    assert sum(p.numel() for p in method.trainable_parameters()) == expected


@pytest.mark.parametrize(
    ("position", "of_12", "of_24", "of_4"),
    [
        ("all", range(12), range(24), range(4)),
        ("bottom", range(4), range(8), [0]),
        ("mid", range(4, 8), range(8, 16), [1, 2]),
        ("up", range(8, 12), range(16, 24), [2, 3]),
        ("half-bottom", range(6), range(12), [0, 1]),
        ("half-up", range(6, 12), range(12, 24), [2, 3]),
        ("top3", [9, 10, 11], [21, 22, 23], [1, 2, 3]),
        ([0, 3], [0, 3], [0, 3], [0, 3]),
    ],
)
def test_positions_are_shares_of_a_tower(position: Any, of_12: Any, of_24: Any, of_4: Any) -> None:
    for layers, expected in ((12, of_12), (24, of_24), (4, of_4)):
        method = build_method("clip_lora", backbone_of(layers=layers), NAMES, {"position": position, "params": ["q"]})
        assert [int(name) for name in method.visual] == list(expected)
        assert [int(name) for name in method.text] == list(expected)


def test_a_tower_with_too_few_blocks_is_named(tiny_backbone: Backbone) -> None:
    assert list(build(tiny_backbone, position="top3").text) == ["0", "1", "2"]
    with pytest.raises(UsageError, match=r"position = \(3,\) names no blocks of the text tower, which has 3"):
        build(tiny_backbone, position=[3])
    with pytest.raises(UsageError, match="position = top3 names no blocks of the text tower, which has 2"):
        build_method("clip_lora", backbone_of(layers=2), NAMES, {"position": "top3"})


def test_it_starts_as_zero_shot_clip(tiny_backbone: Backbone) -> None:
    """B is 0, A uniform up to 1 / sqrt(in): torch's start of a linear layer."""
    method = build(tiny_backbone)
    state = method.trainable_state()
    assert state["text.2.v.A"].shape == (2, 64) and state["visual.0.q.B"].shape == (96, 2)
    assert all(not tensor.any() for name, tensor in state.items() if name.endswith("B"))
    starts = torch.cat([tensor.flatten() for name, tensor in state.items() if name[0] == "v" and name.endswith("A")])
    assert 0.98 < starts.abs().max() * 96**0.5 <= 1 and abs(starts.mean()) < 0.01
    zero_shot = build_method("zeroshot", tiny_backbone, NAMES, {"template": "a photo of a {}."})
    with torch.no_grad():
        ours, plain = method.eval()(images()), zero_shot(images())
        torch.testing.assert_close(ours.global_cosines, plain.global_cosines, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "template", ["a photo of a {}.", "itap of a {}, a type of pet.", "{} in a video game.", "({})"]
)
def test_texts_are_those_of_the_template(tiny_backbone: Backbone, tiny_model: Any, template: str) -> None:
    texts = open_clip.tokenize([template.format(name.replace("_", " ")) for name in NAMES])
    with torch.no_grad():
        expected = tiny_model.encode_text(texts)
    given = build_method("clip_lora", tiny_backbone, NAMES, {"template": template}).eval()
    of_data = build_method("clip_lora", tiny_backbone, NAMES, template=template).eval()
    for method in (given, of_data):
        torch.testing.assert_close(method.encode_text().features_PKd[0], expected, rtol=1e-5, atol=1e-5)
    moved = of_data.with_classes(["tram"], template="a sketch of a {}.")
    with torch.no_grad():
        expected = tiny_model.encode_text(open_clip.tokenize(["a sketch of a tram."]))
    torch.testing.assert_close(moved.encode_text().features_PKd[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("own", [{}, {"options.template": "itap of a {}."}])
def test_runs_have_the_text_of_the_code_unless_told_otherwise(own: dict[str, Any]) -> None:
    run = resolve({"method": "clip_lora", "data": "oxford-pets", "backbone": "x", **own}, env={}).run
    assert run.options["template"] == own.get("options.template", "a photo of a {}.")


def test_dropout_is_that_of_a_step_and_only_of_training(tiny_backbone: Backbone, monkeypatch: Any) -> None:
    method = stirred(build(tiny_backbone)).train()
    draws = method.sample_draws()
    assert {name: seed.shape for name, seed in draws.items()} == {"text_dropout": (), "visual_dropout": ()}

    def step(draws: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
        output = method(images(), draws=draws)
        grads = torch.autograd.grad(method.loss(output, LABELS).total, list(method.parameters()))
        return output.logits.detach(), list(grads)

    logits, grads = step(draws)
    assert torch.equal(logits, step(draws)[0])
    assert not torch.allclose(logits, step(method.sample_draws())[0], rtol=1e-3)
    # Chunks whose activations are thrown away: the same step.
    encode = TextEngine.encode
    monkeypatch.setattr(TextEngine, "encode", lambda engine, *args, **more: encode(engine, *args, chunk=len(NAMES)))
    again, grads_again = step(draws)
    torch.testing.assert_close(again, logits)
    for a, b in zip(grads_again, grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    monkeypatch.undo()
    assert build(tiny_backbone, dropout=0.0).sample_draws() == {}
    method.eval()
    assert torch.equal(method(images()).logits, method(images()).logits)


def test_what_it_learns_serves_other_classes(tiny_backbone: Backbone) -> None:
    method = stirred(build(tiny_backbone)).eval()
    with torch.no_grad():
        whole = method(images()).logits
        some = method.with_classes(NAMES[1:3])(images()).logits
    torch.testing.assert_close(some, whole[:, 1:3], rtol=1e-5, atol=1e-5)


def test_the_text_alone_reads_cached_features(tiny_backbone: Backbone) -> None:
    method = stirred(build(tiny_backbone, encoder="text")).eval()
    assert method.image_needs() == ImageNeeds() and "feature_cache" in method.capabilities
    assert {name.split(".")[0] for name in method.trainable_state()} == {"text"}
    features = tiny_backbone.encode_image(images())
    assert torch.equal(method(features).logits, method(images()).logits)


def test_a_text_tower_that_stays_is_read_once(tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    method = stirred(build(tiny_backbone, encoder="vision"))
    assert method.image_needs().grad and "feature_cache" not in method.capabilities
    assert {name.split(".")[0] for name in method.trainable_state()} == {"visual"}
    whole = build(tiny_backbone, dropout=0.0)
    moved = method.with_classes(NAMES[2:])
    monkeypatch.setattr(TextEngine, "encode", None)
    text_Kd = method.encode_text().unit_PKd[0]
    torch.testing.assert_close(moved.encode_text().unit_PKd[0], text_Kd[2:], rtol=1e-5, atol=1e-6)
    monkeypatch.undo()
    torch.testing.assert_close(whole.encode_text().unit_PKd[0], text_Kd, rtol=1e-5, atol=1e-6)


def test_the_other_tower_stays_as_it_is(tiny_backbone: Backbone) -> None:
    """And so does every method on the same towers."""
    plain = tiny_backbone.encode_image(images()).global_Bd
    method = stirred(build(tiny_backbone)).eval()
    with torch.no_grad():
        assert not torch.allclose(method.encode_images(images()).global_Bd, plain, rtol=1e-2)
    assert torch.equal(tiny_backbone.encode_image(images()).global_Bd, plain)


def test_towers_that_cannot_be_changed_are_refused_where_they_would_be(tiny_resnet: Backbone) -> None:
    with pytest.raises(CapabilityError, match=r"clip_lora.* needs an image tower whose blocks can be changed"):
        build_method("clip_lora", tiny_resnet, NAMES)
    assert build_method("clip_lora", tiny_resnet, NAMES, {"encoder": "text"}).trainable_state()
    assert image_backbone("convnext").vision.takes_deltas is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"params": ["q", "q"]}, "name each map once"),
        ({"position": [-1]}, "at least one block"),
        ({"template": ["a {}.", "the {}."]}, "must be one template"),
        ({"dropout": 1.0}, "less than 1"),
    ],
)
def test_options_that_cannot_be(tiny_backbone: Backbone, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(tiny_backbone, **options)


def test_presets_are_the_two_ways_to_scale(tiny_backbone: Backbone) -> None:
    assert build(tiny_backbone, r=4, alpha=2.0).gamma == 1.0
    assert build(tiny_backbone, r=4, alpha=2.0, preset="lora").gamma == 0.5


# -- files of the official code ------------------------------------------------------------------
SAVED = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "proj"}


def official(method: PromptMethod, **said: Any) -> dict[str, Any]:
    """What the code saves, of this method's matrices."""
    c = method.config
    towers = [tower for tower in ("text", "visual") if hasattr(method, tower)]
    blocks = [own for tower in towers for own in getattr(method, tower).values()]
    weights = {
        f"layer_{i}": {
            SAVED[part]: {f"w_lora_{side}": pair[side].detach().clone() for side in "AB"} for part, pair in own.items()
        }
        for i, own in enumerate(blocks)
    }
    metadata = {"r": c.r, "alpha": c.alpha, "encoder": c.encoder, "params": list(c.params), "position": c.position}
    return {"weights": weights, "metadata": metadata | said}


@pytest.mark.parametrize(
    "options",
    [{}, {"encoder": "text", "position": "up"}, {"encoder": "vision", "params": ["q", "o"], "position": "half-up"}],
)
def test_a_file_of_the_code_is_read(options: dict[str, Any], tmp_path: Path) -> None:
    method = stirred(build_method("clip_lora", backbone_of(), NAMES, options))
    torch.save(official(method), tmp_path / "lora_weights.pt")
    found = type(method).foreign_state(read_foreign(tmp_path / "lora_weights.pt"))
    assert found.state.keys() == method.trainable_state().keys()
    assert all(torch.equal(found.state[name], tensor) for name, tensor in method.trainable_state().items())
    again = build_method("clip_lora", backbone_of(), NAMES, dict(found.options))
    again.load_trainable_state(found.state)
    assert again.config == method.config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("metadata"), "has weights and metadata, this one has weights"),
        (lambda content: content["metadata"].pop("alpha"), "does not say alpha"),
        (lambda content: content["metadata"].update(position="left"), "no encoder 'both' with position 'left'"),
        (lambda content: content["weights"].pop("layer_3"), "counts its layers from layer_0"),
        (lambda content: content["weights"].pop("layer_23"), "11 attentions of the visual tower, which is not all of"),
        (lambda content: content["weights"]["layer_0"].pop("q_proj"), "lacks q_proj.w_lora_A"),
    ],
)
def test_a_file_that_is_none_of_the_codes_is_refused(change: Any, message: str) -> None:
    content = official(build_method("clip_lora", backbone_of(), NAMES))
    change(content)
    with pytest.raises(InputError, match=message):
        type(build_method("clip_lora", backbone_of(), NAMES)).foreign_state(content)


# -- schedule ------------------------------------------------------------------------------------
@pytest.mark.parametrize(("shots", "steps"), [(1, 500), (3, 1500), (16, 8000), (None, 8000)])
def test_five_hundred_steps_a_shot(shots: int | None, steps: int) -> None:
    text = resources.files("vlmprompt_adapters").joinpath("schedules/clip_lora.toml").read_text(encoding="utf-8")
    known = {f"train.{key}" for table in tomllib.loads(text)["override"] for key in table["train"]} | {
        "options.template"
    }
    run = RunConfig(method="clip_lora", data="folder:photos", backbone="x", shots=shots)
    values: dict[str, Any] = {}
    for layer in override_layers("vlmprompt_adapters:schedules/clip_lora.toml", run, known=known):
        values |= layer.values
    expected = {"optimizer": "adamw", "lr": 2e-4, "weight_decay": 0.01, "batch_size": 32, "warmup_epochs": 0}
    expected |= {"schedule_unit": "step", "min_lr": 1e-6}
    assert values.pop("options.template") == "a photo of a {}."
    assert values == {f"train.{key}": value for key, value in expected.items()} | {
        "train.epochs": 100_000,
        "train.max_steps": steps,
    }

"""What every baseline must do: the rules of all methods, names and shapes, gradients, sources, training."""

from __future__ import annotations

import math
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from tests.baselines.cases import LABELS, NAMES, OPTIONS, SHAPES, THROUGH_IMAGES, build, images
from tests.training.material import Hooked, make_photos, runtime
from vlmprompt.config.models import RunConfig, TrainConfig
from vlmprompt.errors import CapabilityError
from vlmprompt.methods.build import method_config
from vlmprompt.methods.requirements import CAPABILITIES
from vlmprompt.plugins import host
from vlmprompt.testing import check_method
from vlmprompt.training.checkpoint import Checkpoint
from vlmprompt.training.dry_run import dry_run
from vlmprompt.training.run import train
from vlmprompt_baselines.proda import upper_logits

each = pytest.mark.parametrize("name", sorted(OPTIONS))

test_cocoop = check_method("cocoop", **OPTIONS["cocoop"])
test_ivlp = check_method("ivlp", **OPTIONS["ivlp"])
test_kgcoop = check_method("kgcoop", **OPTIONS["kgcoop"])
test_locoop = check_method("locoop", **OPTIONS["locoop"])
test_maple = check_method("maple", **OPTIONS["maple"])
test_plot = check_method("plot", **OPTIONS["plot"])
test_proda = check_method("proda", **OPTIONS["proda"])
test_promptsrc = check_method("promptsrc", **OPTIONS["promptsrc"])
test_vpt = check_method("vpt", **OPTIONS["vpt"])


def test_all_are_covered() -> None:
    found = {e.name for e in host().methods.entries() if e.distribution == "vlmprompt-baselines"}
    assert found == set(OPTIONS) == set(SHAPES)


@each
def test_names_and_shapes(tiny_backbone, name):
    method = build(tiny_backbone, name)
    assert {n: tuple(p.shape) for n, p in method.named_parameters()} == SHAPES[name]
    assert set(method.trainable_state()) == set(SHAPES[name])
    assert method.capabilities <= CAPABILITIES
    assert ("feature_cache" in method.capabilities) == (not method.image_needs().grad) == (name not in THROUGH_IMAGES)


@each
def test_every_row_of_what_it_learns_is_learned(tiny_backbone, name):
    method = build(tiny_backbone, name).train()
    optimizer = torch.optim.SGD(method.trainable_parameters(), lr=0.01)
    before = {n: t.clone() for n, t in method.named_parameters()}
    for _ in range(4):
        optimizer.zero_grad()
        losses = method.loss(method(images()), LABELS)
        losses.total.backward()
        assert all(math.isfinite(float(v)) and not v.requires_grad for v in losses.parts.values())
        optimizer.step()
    for parameter, after in method.named_parameters():
        assert after.grad is not None and after.grad.isfinite().all(), parameter
        rows = (after - before[parameter]).flatten(1) if after.dim() > 1 else (after - before[parameter])[None]
        assert rows.abs().amax(dim=1).min() > 0 or parameter.startswith("meta_net"), parameter
        assert not torch.equal(after, before[parameter]), parameter


@each
def test_another_seed_starts_elsewhere(tiny_backbone, name):
    first, other = (build(tiny_backbone, name, seed).trainable_state() for seed in (1, 2))
    starts_from_words = name == "kgcoop"
    assert any(not torch.equal(first[n], other[n]) for n in SHAPES[name]) != starts_from_words


@each
def test_weights_of_images_act_on_the_cross_entropy(tiny_backbone, name):
    method = build(tiny_backbone, name).train()
    output = method(images())
    weights = torch.linspace(0.2, 1.8, len(LABELS))
    losses, plain = method.loss(output, LABELS, weights=weights), method.loss(output, LABELS)
    logits = upper_logits(output, LABELS) if name == "proda" else output.logits
    ce = (weights * F.cross_entropy(logits, LABELS, reduction="none")).mean()
    part = "upper" if name == "proda" else "ce"
    torch.testing.assert_close(losses.parts[part], ce.detach())
    torch.testing.assert_close(losses.total - plain.total, ce - plain.parts[part], atol=1e-5, rtol=1e-4)
    for other in plain.parts.keys() - {part}:
        torch.testing.assert_close(losses.parts[other], plain.parts[other])


@each
def test_what_comes_out(tiny_backbone, name):
    method = build(tiny_backbone, name).eval()
    output = method(images())
    assert output.logits.shape == (4, len(NAMES)) and output.scale == tiny_backbone.scale
    assert (output.global_cosines is None) == (name == "plot")
    assert (output.local is not None) == ("local" in method.capabilities) == (name in ("locoop", "plot"))
    if output.global_cosines is not None:
        torch.testing.assert_close(output.scale * output.global_cosines, output.logits)
    if output.local_cosines is not None:
        assert output.local_cosines.shape == (4, 16, len(NAMES))
        assert output.local_cosines.abs().max() <= 1 + 1e-5


@each
def test_image_prompts_need_a_vit(tiny_resnet, name):
    if name in THROUGH_IMAGES:
        with pytest.raises(CapabilityError, match=rf"method '{name}' needs .* ViT.*'tiny-rn' has none"):
            build(tiny_resnet, name)
    else:
        photos = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        method = build(tiny_resnet, name)
        method.loss(method(photos), LABELS[:2]).total.backward()
        assert all(p.grad is not None for p in method.parameters())


# -- options and schedules -------------------------------------------------------------------------------
@each
def test_every_option_says_where_it_comes_from(name):
    entry = host().methods.get(name)
    for option, field in type(method_config(name)).model_fields.items():
        assert field.description and ("paper" in field.description or "code" in field.description), option
    doc = entry.load().__doc__
    cited = doc.split("\n\n")[0]
    assert "et al." in cited and any(venue in cited for venue in ("CVPR", "ICCV", "ICLR", "NeurIPS", "ECCV"))
    assert "Same as" in doc or "code is not public" in doc  # the line on fidelity


@each
def test_shipped_settings_begin_with_a_schedule(name):
    text = resources.files("vlmprompt_baselines").joinpath(f"schedules/{name}.toml").read_text(encoding="utf-8")
    overrides = tomllib.loads(text)["override"]
    assert "when" not in overrides[0] and {"epochs", "batch_size"} <= overrides[0]["train"].keys()


# -- runs ------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("data") / "photos", splits={"train": 3, "test": 1})


def run_config(photos: Path, name: str) -> RunConfig:
    schedule: dict[str, Any] = {"epochs": 3, "batch_size": 4, "checkpoint_every": 1, "warmup_epochs": 0, "lr": 0.01}
    options = OPTIONS[name] | ({"gpa_mean": 2.0} if name == "promptsrc" else {})
    return RunConfig(
        method=name,
        data=f"folder:{photos}",
        backbone="tiny-vit",
        shots=3,
        train=TrainConfig(**schedule),
        options=method_config(name, options).model_dump(mode="json"),
    )


class Stopped(BaseException):
    """Ends a run between two instructions."""


def stop_at(step: int) -> Hooked:
    def act(now: int) -> None:
        if now == step:
            raise Stopped

    return Hooked(act)


@pytest.mark.parametrize("name", ["proda", "promptsrc"])
def test_what_only_training_knows_is_in_the_checkpoint(tiny_backbone, photos, tmp_path, name):
    """Nine steps of three epochs; stopped in the second epoch, within a round of ProDA's prompts."""
    config = run_config(photos, name)
    whole = train(config, runtime(tmp_path), out=tmp_path / "whole", backbone=tiny_backbone).run
    place = {"out": tmp_path / "broken", "backbone": tiny_backbone}
    with pytest.raises(Stopped):
        train(config, runtime(tmp_path), progress=stop_at(6), **place)
    midway = Checkpoint.load(tmp_path / "broken" / "checkpoint.safetensors").state.keys() - SHAPES[name].keys()
    assert (
        midway
        == {
            "proda": {"queue"},
            "promptsrc": {"average_text_prompts", "average_visual_prompts"},
        }[name]
    )
    resumed = train(config, runtime(tmp_path), resume=True, **place).run
    ours, theirs = (path / "checkpoint.safetensors" for path in (resumed, whole))
    assert ours.read_bytes() == theirs.read_bytes()


@each
def test_dry_run(tiny_backbone, photos, tmp_path, name):
    report = dry_run(run_config(photos, name), runtime(tmp_path), backbone=tiny_backbone)
    assert report["parameters"]["total"] == sum(math.prod(shape) for shape in SHAPES[name].values())
    assert report["flops"]["image"] > 0
    assert (report["flops"]["text"] > 0) == (name != "vpt")

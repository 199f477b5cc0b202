"""What all methods on image features must do: names, gradients, refusals, cached text, options, settings, runs."""

from __future__ import annotations

import math
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.adapters.feature_cases import FITTED, NAMES, OPTIONS, SHAPES, blobs, build, fitted
from tests.bloom.shim import backbone_of
from tests.training.material import make_photos, runtime
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.config.models import RunConfig, TrainConfig
from vlmprompt.config.overrides import override_layers
from vlmprompt.errors import CapabilityError, InputError
from vlmprompt.methods.build import build_method, method_config
from vlmprompt.methods.requirements import CAPABILITIES
from vlmprompt.plugins import host
from vlmprompt.training.dry_run import dry_run
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run

each = pytest.mark.parametrize("name", sorted(OPTIONS))


@each
def test_names_and_shapes(tiny_backbone, name):
    method = fitted(tiny_backbone, name)
    assert {n: tuple(t.shape) for n, t in method.trainable_state().items()} == SHAPES[name]
    assert {n: tuple(p.shape) for n, p in method.named_parameters()} == {
        n: shape for n, shape in SHAPES[name].items() if n not in ("labels", "multipliers") and name != "tip_adapter"
    }
    assert "feature_cache" in method.capabilities <= CAPABILITIES and not method.image_needs().grad


@pytest.mark.parametrize(("name", "expected"), [("clip_adapter", 2 * 512 * 128), ("lp_plus_plus", 100 * 514)])
def test_parameter_counts_at_joint_width_512(name, expected):
    method = build_method(name, backbone_of(), [f"class {i}" for i in range(100)])
    assert sum(p.numel() for p in method.trainable_parameters()) == expected


@each
def test_gradients_reach_its_own_tensors_alone(tiny_model, tiny_backbone, name):
    method = fitted(tiny_backbone, name).train()
    losses = method.loss(method(blobs(3, seed=3)[0]), blobs(3, seed=3)[1])
    assert all(math.isfinite(float(v)) and not v.requires_grad for v in losses.parts.values())
    if name != "tip_adapter":
        losses.total.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in method.parameters())
    assert all(p.grad is None for p in tiny_model.parameters())


@each
def test_other_classes(tiny_backbone, name):
    method = fitted(tiny_backbone, name)
    if name == "clip_adapter":
        assert method.with_classes(["fox"])(blobs(1, seed=3)[0]).logits.shape == (3, 1)
    else:
        with pytest.raises(CapabilityError, match="cannot serve other classes"):
            method.with_classes(["fox"])


@each
def test_frozen_and_loaded_it_gives_the_same(tiny_backbone, name):
    method = fitted(tiny_backbone, name).eval()
    features, _ = blobs(3, seed=3)
    expected = method(features).logits.detach()
    assert torch.equal(method.frozen()(features).logits, expected)
    other = build(tiny_backbone, name, seed=9).eval()
    assert name in ("clap", "taskres") or not torch.equal(other(features).logits, expected)
    other.load_trainable_state(method.trainable_state())
    assert torch.equal(other(features).logits, expected)


@each
def test_several_names_a_class(tiny_backbone, name):
    names = ["cat", "red_panda | panda"]
    if name in ("clap", "taskres"):
        with pytest.raises(CapabilityError, match="has 2"):
            build_method(name, tiny_backbone, names)
    else:
        zero_shot = build_method("zeroshot", tiny_backbone, names).encode_text().unit_PKd
        torch.testing.assert_close(build_method(name, tiny_backbone, names).encode_text().unit_PKd, zero_shot)


# -- what fit refuses ------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", FITTED)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, y: (f, y[:-1]), r"12 rows and labels of shape \(11,\)"),
        (lambda f, y: (f, y + 1), "the training label 3, and has 3 classes"),
        (lambda f, y: (f, y - 1), "the training label -1, and has 3 classes"),
        (lambda f, y: (f, y.float()), "labels that are torch.float32"),
        (lambda f, y: (f[:0], y[:0]), "no training images"),
    ],
)
def test_rows_and_labels(tiny_backbone, name, change, message):
    with pytest.raises(InputError, match=message) as caught:
        build(tiny_backbone, name).fit(*change(*blobs(4, seed=1)), None)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["clap", "lp_plus_plus"])
def test_a_class_without_an_image(tiny_backbone, name):
    features, labels = blobs(4, seed=1)
    seen = labels != 1
    with pytest.raises(InputError, match="no training image of class 'red_panda', over whose images it takes a mean"):
        build(tiny_backbone, name).fit(features[seen], labels[seen], None)


def test_a_cache_may_lack_a_class(tiny_backbone):
    method = build(tiny_backbone, "tip_adapter")
    features, labels = blobs(4, seed=1)
    method.fit(features[labels != 1], labels[labels != 1], None)
    own = build_method("zeroshot", tiny_backbone, NAMES)(features).global_cosines
    cached = method(features).logits - 100 * own
    assert cached[:, 1].abs().max() < 1e-4 < cached[:, [0, 2]].min()


@pytest.mark.parametrize("name", ["lp_plus_plus", "tip_adapter"])
def test_validation_labels(tiny_backbone, name):
    features, labels = blobs(4, seed=1)
    with pytest.raises(InputError, match="the validation label 5, and has 3 classes"):
        build(tiny_backbone, name, search="val").fit(features, labels, (features, labels + 5))


# -- options and settings --------------------------------------------------------------------------------
@each
def test_every_option_says_where_it_comes_from(name):
    entry = host().methods.get(name)
    for option, field in type(method_config(name)).model_fields.items():
        assert field.description and ("paper" in field.description or "code" in field.description), option
    doc = entry.load().__doc__
    assert "et al." in doc.split("\n\n")[0] and "Same as the official code" in doc


def shipped(name: str, **where: Any) -> dict[str, Any]:
    """What the overrides of a method set for a run."""
    text = resources.files("vlmprompt_adapters").joinpath(f"schedules/{name}.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)["override"]
    known = {f"{part}.{key}" for table in tables for part in ("train", "options") for key in table.get(part, {})}
    run = RunConfig(method=name, backbone="x", **{"data": "folder:photos", "shots": 16, **where})
    values: dict[str, Any] = {}
    for layer in override_layers(f"vlmprompt_adapters:schedules/{name}.toml", run, known=known):
        values |= layer.values
    return values


def of(part: str, values: dict[str, Any]) -> dict[str, Any]:
    return {key.removeprefix(f"{part}."): value for key, value in values.items() if key.startswith(f"{part}.")}


@each
def test_shipped_settings_are_valid(name):
    for data in ("coop:imagenet", "coop:eurosat", "coop:flowers102", "doodles", "doodles-food"):
        values = shipped(name, data=data)
        TrainConfig(**of("train", values))
        method_config(name, of("options", values))


@pytest.mark.parametrize("name", ["tip_adapter", "tip_adapter_f"])
@pytest.mark.parametrize(
    ("data", "alpha", "beta_most", "alpha_most"),
    [
        ("caltech101", 3, 12, 5),
        ("dtd", 2, 13, 13),
        ("eurosat", 2, 12, 10),
        ("fgvc_aircraft", 5, 30, 30),
        ("food101", 1.17, 10, 10),
        ("imagenet", 1.17, 7, 3),
        ("flowers102", 10, 50, 50),
        ("oxford_pets", 1.17, 7, 3),
        ("stanford_cars", 3, 20, 10),
        ("sun397", 1.17, 12, 10),
        ("ucf101", 3, 7, 3),
    ],
)
def test_tip_adapters_settings_of_each_data_set(name, data, alpha, beta_most, alpha_most):
    options = of("options", shipped(name, data=f"coop:{data}"))
    assert (options["alpha"], options["beta"], options["search_scale"]) == (alpha, 1.0, [beta_most, alpha_most])
    assert len(options.get("templates", ())) == (7 if data == "imagenet" else 0)


@pytest.mark.parametrize(
    ("name", "where", "expected"),
    [
        ("tip_adapter_f", {}, {"epochs": 20, "batch_size": 256, "lr": 0.001, "eps": 1e-4, "weight_decay": 0.01}),
        ("tip_adapter_f", {"data": "coop:eurosat"}, {"epochs": 100, "optimizer": "adamw", "schedule_unit": "step"}),
        ("taskres", {}, {"optimizer": "adam", "epochs": 200, "batch_size": 256}),
        ("taskres", {"shots": 4}, {"epochs": 100}),
        ("taskres", {"data": "coop:imagenet"}, {"lr": 0.0002, "epochs": 200}),
        ("clip_adapter", {}, {"epochs": 200, "batch_size": 32}),
        ("clip_adapter", {"shots": 1}, {"epochs": 50}),
        ("clip_adapter", {"data": "coop:imagenet"}, {"epochs": 50}),
    ],
)
def test_shipped_schedules(name, where, expected):
    values = of("train", shipped(name, **where))
    assert {key: values[key] for key in expected} == expected


@pytest.mark.parametrize(("name", "texts"), [("taskres", 8), ("clap", 8), ("lp_plus_plus", 7)])
def test_imagenets_texts(name, texts):
    assert len(of("options", shipped(name, data="coop:imagenet"))["templates"]) == texts


def test_taskres_factor_of_flowers():
    assert of("options", shipped("taskres", data="coop:flowers102")) == {"alpha": 1.0}


# -- runs ------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("data") / "photos", splits={"train": 3, "test": 1})


def run_config(photos: Path, name: str) -> RunConfig:
    return RunConfig(
        method=name,
        data=f"folder:{photos}",
        backbone="tiny-vit",
        shots=3,
        train=TrainConfig(epochs=2, batch_size=4, warmup_epochs=0, lr=0.01),
        options=method_config(name, OPTIONS[name]).model_dump(mode="json"),
    )


@each
def test_a_run_and_its_method(tiny_backbone, photos, tmp_path, name):
    result = train(run_config(photos, name), runtime(tmp_path), backbone=tiny_backbone)
    run = load_run(result.run)
    method = run.build_method(tiny_backbone).eval()
    assert method.trainable_state().keys() == SHAPES[name].keys()
    assert (result.metrics["steps"] > 0) == (name in ("clip_adapter", "taskres", "tip_adapter_f"))
    assert bool(run.info.fit) == (name in FITTED)
    assert method(torch.zeros(2, 3, 32, 32)).logits.shape == (2, 4)


@each
def test_dry_run(tiny_backbone, photos, tmp_path, name):
    report = dry_run(run_config(photos, name), runtime(tmp_path), backbone=tiny_backbone)
    assert report["shapes"]["logits"] == [4, 4]


@each
def test_a_feature_of_a_reduced_tower(tiny_backbone, name):
    """What the methods compute themselves is in fp32."""
    method = fitted(tiny_backbone, name).eval()
    features, _ = blobs(3, seed=3)
    output = method(ImageFeatures(features.global_Bd.bfloat16()))
    assert output.logits.dtype == torch.float32
    assert (output.logits - method(features).logits).abs().max() <= 0.02 * output.logits.abs().max()

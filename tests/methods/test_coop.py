"""CoOp: its parameter, its initial values, its place in the text, its schedules."""

from __future__ import annotations

import tomllib
import warnings
from importlib import resources

import open_clip
import pytest
import torch
from torch.nn import functional as F

from tests.backbones.reference import shared_context
from vlmprompt.backbones.types import ImageNeeds
from vlmprompt.config.models import RunConfig, TrainConfig
from vlmprompt.config.overrides import override_layers
from vlmprompt.errors import InputError
from vlmprompt.methods.build import build_method
from vlmprompt.methods.contract import PromptMethod

NAMES = ["cat", "red_panda", "tench, fish"]


def images() -> torch.Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def seeded(backbone, seed: int, **options: object) -> PromptMethod:
    return build_method("coop", backbone, NAMES, options, generator=torch.Generator().manual_seed(seed))


def test_random_start_is_small_gaussian_and_seeded(tiny_backbone):
    ctx = seeded(tiny_backbone, 1, n_ctx=16).ctx
    assert ctx.shape == (16, 64)
    assert 0.018 < ctx.std() < 0.022
    assert torch.equal(ctx, seeded(tiny_backbone, 1, n_ctx=16).ctx)
    assert not torch.equal(ctx, seeded(tiny_backbone, 2, n_ctx=16).ctx)


def test_paper_size():
    """16 x 512 = 8,192 at ViT-B/16's text width; 4 x 512 = 2,048 from words."""
    from tests.bloom.shim import backbone_of

    assert build_method("coop", backbone_of(), NAMES).ctx.numel() == 8192
    assert build_method("coop", backbone_of(), NAMES, {"ctx_init": "a photo of a"}).ctx.numel() == 2048


@pytest.mark.parametrize("class_specific", [False, True])
def test_words_as_start_give_zero_shot(tiny_model, tiny_backbone, class_specific):
    method = seeded(tiny_backbone, 1, ctx_init="a_photo of a", class_specific=class_specific)
    assert method.ctx.shape == ((3, 4, 64) if class_specific else (4, 64))
    texts = open_clip.tokenize([f"a photo of a {name.replace('_', ' ')}." for name in NAMES])
    expected = F.normalize(tiny_model.encode_text(texts), dim=-1)
    torch.testing.assert_close(method.encode_text().unit_PKd[0], expected, atol=1e-5, rtol=0)


def test_words_decide_the_length_and_say_so(tiny_backbone):
    with pytest.warns(UserWarning, match="n_ctx = 5 has no effect: 'a photo of a' is 4 tokens"):
        method = seeded(tiny_backbone, 1, n_ctx=5, ctx_init="a photo of a")
    assert method.ctx.shape == (4, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seeded(tiny_backbone, 1, n_ctx=4, ctx_init="a photo of a")
        seeded(tiny_backbone, 1, ctx_init="a photo of a")


def test_start_words_must_be_words(tiny_backbone):
    with pytest.raises(InputError, match="ctx_init '_' holds no words"):
        seeded(tiny_backbone, 1, ctx_init="_")


def test_logits_loss_and_gradient_the_plain_way(tiny_model, tiny_backbone, tokenizer):
    method = seeded(tiny_backbone, 1, n_ctx=5)
    labels = torch.tensor([0, 1, 2, 0])
    loss = method.loss(method(images()), labels).total
    loss.backward()
    ctx = method.ctx.detach().clone().requires_grad_()
    text_Kd = F.normalize(shared_context(tiny_model, tokenizer, NAMES, ctx), dim=-1)
    logits = tiny_model.logit_scale.exp() * F.normalize(tiny_model.encode_image(images()), dim=-1) @ text_Kd.T
    plain = F.cross_entropy(logits, labels)
    plain.backward()
    torch.testing.assert_close(loss, plain, rtol=1e-5, atol=0)
    assert (method.ctx.grad - ctx.grad).abs().max() <= 1e-5 * ctx.grad.abs().max()
    assert ctx.grad.abs().max() > 0


def test_only_the_context_trains_and_features_can_be_cached(tiny_model, tiny_backbone):
    method = seeded(tiny_backbone, 1)
    assert [name for name, _ in method.named_parameters()] == ["ctx"]
    assert set(method.trainable_state()) == {"ctx"}
    assert method.image_needs() == ImageNeeds(grad=False)
    assert "feature_cache" in method.capabilities
    method.loss(method(images()), torch.tensor([0, 1, 2, 0])).total.backward()
    assert all(p.grad is None and not p.requires_grad for p in tiny_model.parameters())


def test_class_specific_contexts_serve_no_new_classes(tiny_backbone):
    method = seeded(tiny_backbone, 1, class_specific=True, n_ctx=2)
    assert method.ctx.shape == (3, 2, 64)
    assert "new_classes" not in method.capabilities
    assert "new_classes" in seeded(tiny_backbone, 1).capabilities
    with pytest.raises(InputError, match="cannot serve other classes"):
        method.with_classes(["fox"])


@pytest.mark.parametrize(
    ("data", "shots", "setting", "epochs", "options"),
    [
        ("folder:photos", 1, "few-shot", 50, {}),
        ("folder:photos", 2, "few-shot", 100, {}),
        ("folder:photos", 4, "few-shot", 100, {}),
        ("folder:photos", 8, "few-shot", 200, {}),
        ("folder:photos", 16, "few-shot", 200, {}),
        ("folder:photos", None, "few-shot", 50, {}),
        ("coop:imagenet", 16, "few-shot", 50, {}),
        ("folder:photos", 16, "base-to-new", 50, {"n_ctx": 4, "ctx_init": "a photo of a"}),
        ("coop:imagenet", 16, "cross-dataset", 50, {"n_ctx": 4, "ctx_init": "a photo of a"}),
    ],
)
def test_shipped_schedules(data, shots, setting, epochs, options):
    run = RunConfig(method="coop", data=data, backbone="x", shots=shots, setting=setting)
    values: dict[str, object] = {}
    for layer in override_layers("vlmprompt.methods:coop.toml", run, known=known()):
        values |= layer.values
    assert values == {"train.epochs": epochs} | {f"options.{k}": v for k, v in options.items()}


def known() -> set[str]:
    tables = tomllib.loads(resources.files("vlmprompt.methods").joinpath("coop.toml").read_text())["override"]
    assert {key for table in tables for key in table.get("options", {})} <= {"n_ctx", "ctx_init"}
    train = {f"train.{name}" for name in TrainConfig.model_fields}
    return train | {"options.n_ctx", "options.ctx_init"}

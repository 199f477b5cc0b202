"""Finding and checking models; full-size architectures with random weights."""

from __future__ import annotations

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from tests.backbones.reference import shared_context
from tests.backbones.test_text import close
from tests.tiny_architectures import TINY_CONFIG
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.capabilities import Capabilities, capabilities
from vlmprompt.backbones.load import load_backbone
from vlmprompt.backbones.types import TextPrompts
from vlmprompt.errors import CapabilityError, InputError, UsageError


@pytest.mark.long
def test_full_size_vit_features_and_gradients(tokenizer):
    """ViT-B/16: text within 1e-5 of the 77-position path, gradients too; image features of encode_image."""
    backbone = load_backbone("ViT-B-16-quickgelu", random_weights=3)
    model = backbone._model
    names = ["golden retriever", "tram", "airliner"]
    ctx_PVD = (0.02 * torch.randn(2, 4, 512, generator=torch.Generator().manual_seed(0))).requires_grad_()
    ours = backbone.text.encode(TextPrompts(ctx_PVD), backbone.text.class_tokens(names))
    plain = torch.stack([shared_context(model, tokenizer, names, ctx) for ctx in ctx_PVD])
    assert (ours - plain).abs().max() <= 1e-5
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    close(
        torch.autograd.grad((ours * weights).sum(), ctx_PVD)[0],
        torch.autograd.grad((plain * weights).sum(), ctx_PVD)[0],
    )
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert (backbone.encode_image(images).global_Bd - model.encode_image(images)).abs().max() <= 1e-5


def test_full_size_resnet():
    backbone = load_backbone("RN50-quickgelu", random_weights=0)
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        close(backbone.encode_image(images).global_Bd, backbone._model.encode_image(images))
        texts = ["a photo of a cat.", "two dogs"]
        close(backbone.text.encode_sentences(texts), backbone._model.encode_text(open_clip.tokenize(texts)))
    assert (backbone.vision.n_local, backbone.vision.joint_dim, backbone.is_vit) == (49, 1024, False)


def test_random_weights_are_repeatable_and_leave_the_global_generator_alone(tiny_architecture):
    before = torch.random.get_rng_state()
    first = load_backbone(tiny_architecture, random_weights=7)
    assert torch.equal(before, torch.random.get_rng_state())
    assert load_backbone(tiny_architecture, random_weights=7).digest == first.digest
    assert load_backbone(tiny_architecture, random_weights=8).digest != first.digest


def test_local_checkpoint_needs_the_activation_said(tiny_architecture, tmp_path):
    model = open_clip.create_model(tiny_architecture, pretrained=None)
    path = tmp_path / "weights.safetensors"
    save_file(model.state_dict(), path)
    spec = f"{tiny_architecture}/{path}"
    with pytest.raises(UsageError, match="with or without QuickGELU") as error:
        load_backbone(spec)
    assert "--quick-gelu" in str(error.value.hint)
    texts = open_clip.tokenize(["a cat"])
    plain = load_backbone(spec, quick_gelu=False)
    close(plain.text.encode_sentences(["a cat"]), model.eval().encode_text(texts).detach())
    assert not torch.allclose(
        load_backbone(spec, quick_gelu=True).text.encode_sentences(["a cat"]), plain.text.encode_sentences(["a cat"])
    )
    with pytest.raises(UsageError, match="is built with QuickGELU"):
        load_backbone(f"{tiny_architecture}-quickgelu/{path}", quick_gelu=False)


def test_activation_mismatch_with_a_tag_is_an_error():
    with pytest.raises(InputError, match="trained with QuickGELU") as error:
        load_backbone("ViT-B-16/openai")
    assert error.value.hint == "use --backbone ViT-B-16-quickgelu/openai"
    with pytest.raises(InputError, match="trained without QuickGELU"):
        load_backbone("ViT-B-16-quickgelu/laion2b_s34b_b88k")


def test_towers_are_named_by_a_text(tmp_path):
    with pytest.raises(UsageError, match="and not by a PosixPath") as error:
        load_backbone(tmp_path)
    assert "ARCHITECTURE/{path}" in error.value.hint


@pytest.mark.parametrize(
    ("spec", "message", "hint"),
    [
        ("ViT-B-61/openai", "unknown architecture 'ViT-B-61'", "ViT-B-16"),
        ("ViT-B-16-quickgelu", "names no weights", "--random-weights"),
        ("ViT-B-16-quickgelu/opena", "neither a file nor a pretrained tag", "openai"),
    ],
)
def test_unknown_names_are_explained(spec, message, hint):
    with pytest.raises(UsageError, match=message) as error:
        load_backbone(spec)
    assert hint in str(error.value.hint)


def test_unfit_towers_are_refused_by_reason(tokenizer):
    unpooled = open_clip.model.CLIP(
        embed_dim=32,
        vision_cfg=TINY_CONFIG["vision_cfg"] | {"pool_type": "none"},
        text_cfg=TINY_CONFIG["text_cfg"],
    )
    with pytest.raises(CapabilityError, match="it is pooled by 'none'"):
        Backbone.from_model(unpooled, tokenizer)
    coca_like = open_clip.model.CustomTextCLIP(
        embed_dim=32,
        vision_cfg=TINY_CONFIG["vision_cfg"],
        text_cfg=TINY_CONFIG["text_cfg"] | {"no_causal_mask": True, "embed_cls": True},
    )
    with pytest.raises(CapabilityError, match="a class token behind a text that is not causal"):
        Backbone.from_model(coca_like, tokenizer)


def test_capabilities_are_told_by_the_towers(tiny_backbone, tiny_resnet):
    assert capabilities(tiny_backbone) == Capabilities(
        text="causal, read at the end token",
        context_length=77,
        text_layers=3,
        shared_prefix=True,
        image="ViT, class token",
        image_size=(32, 32),
        grid=(4, 4),
        local="value path of the last block, or its tokens",
        visual_prompts=True,
        image_layers=3,
        joint_dim=32,
        text_deltas=True,
        image_deltas=True,
    )
    resnet = capabilities(tiny_resnet)
    assert (resnet.image, resnet.grid, resnet.visual_prompts) == ("ResNet", (2, 2), False)


def test_preprocessing_comes_from_the_model(tiny_backbone):
    assert tiny_backbone.preprocess.size == 32
    assert tiny_backbone.preprocess.mean == open_clip.OPENAI_DATASET_MEAN
    config = load_backbone("ViT-B-16-quickgelu", random_weights=0).preprocess
    assert (config.size, config.interpolation, config.resize_mode) == (224, "bicubic", "shortest")

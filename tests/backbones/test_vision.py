"""The image engines against open_clip and against the plain loop with prompt tokens."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.backbones.reference import image_features
from tests.backbones.test_text import close
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import ImageNeeds, VisualPrompts
from vlmprompt.errors import CapabilityError, InputError
from vlmprompt.testing import tiny_clip

LOCAL = ("value_block", "value_only", "tokens")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_vit_equals_encode_image(tiny_model, tiny_backbone, images):
    close(tiny_backbone.encode_image(images).global_Bd, tiny_model.encode_image(images))


@pytest.mark.parametrize("local", [None, "tokens", "value_block"])
def test_resnet_equals_encode_image(tokenizer, local):
    model = tiny_clip(resnet=True)
    backbone = Backbone.from_model(model, tokenizer)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    close(backbone.encode_image(images, ImageNeeds(local=local)).global_Bd, model.encode_image(images))


@pytest.mark.parametrize("layers", [(0,), (0, 1), (0, 1, 2), (1, 2), (1,)])
@pytest.mark.parametrize("after_ln_pre", [False, True])
@pytest.mark.parametrize("drop_after", [False, True])
def test_prompts_values_and_gradients(tiny_model, tiny_backbone, images, layers, after_ln_pre, drop_after):
    g = torch.Generator().manual_seed(1)
    prompts = {i: torch.randn(2, 96, generator=g).requires_grad_() for i in layers}
    options = {"after_ln_pre": after_ln_pre, "drop_after": drop_after}
    given = VisualPrompts(prompts, **options)
    ours = tiny_backbone.encode_image(images, ImageNeeds(grad=True), prompts=given).global_Bd
    plain = image_features(tiny_model, images, prompts, **options)
    close(ours, plain)
    weights = torch.randn(ours.shape, generator=g)
    inputs = list(prompts.values())
    for a, b in zip(
        torch.autograd.grad((ours * weights).sum(), inputs),
        torch.autograd.grad((plain * weights).sum(), inputs),
        strict=True,
    ):
        close(a, b)


def test_value_block_is_the_last_block_without_attention(tiny_model, tiny_backbone, images):
    """With the last block's attention matrix replaced by the identity, ordinary outputs are the local features."""
    features = tiny_backbone.encode_image(images, ImageNeeds(local="value_block"))
    visual = copy.deepcopy(tiny_model.visual)
    x = visual._embeds(images)
    *early, last = visual.transformer.resblocks
    for block in early:
        x = block(x)
    c = x.shape[-1]
    value = torch.nn.functional.linear(last.ln_1(x), last.attn.in_proj_weight[2 * c :], last.attn.in_proj_bias[2 * c :])
    x = x + last.attn.out_proj(value)
    x = x + last.mlp(last.ln_2(x))
    close(features.local_BNc, (visual.ln_post(x) @ visual.proj)[:, 1:])


def test_value_only_is_the_last_value_path_without_residual_and_mlp(tiny_model, tiny_backbone, images):
    features = tiny_backbone.encode_image(images, ImageNeeds(local="value_only"))
    visual = tiny_model.visual
    x = visual._embeds(images)
    *early, last = visual.transformer.resblocks
    for block in early:
        x = block(x)
    *_, weight = last.attn.in_proj_weight.chunk(3)
    *_, bias = last.attn.in_proj_bias.chunk(3)
    value = last.attn.out_proj(last.ln_1(x) @ weight.T + bias)
    close(features.local_BNc, (visual.ln_post(value) @ visual.proj)[:, 1:])


def test_value_attention_is_a_path_beside_all_blocks(tiny_model, tiny_backbone, images):
    """SOT-GLP's path, by torch's own attention module with values in place of queries and keys."""
    features = tiny_backbone.encode_image(images, ImageNeeds(local="value_attention"))
    visual = tiny_model.visual
    x = visual._embeds(images)
    path = x
    for i, block in enumerate(visual.transformer.resblocks):
        normed = block.ln_1(x)
        if i == 0:
            path = path + block.attn(normed, normed, normed, need_weights=False)[0]
        by_values = copy.deepcopy(block.attn)
        for rows in (slice(0, 96), slice(96, 192)):
            by_values.in_proj_weight.data[rows] = block.attn.in_proj_weight[192:]
            by_values.in_proj_bias.data[rows] = block.attn.in_proj_bias[192:]
        path = path + by_values(normed, normed, normed, need_weights=False)[0]
        x = block(x)
    close(features.local_BNc, (visual.ln_post(path) @ visual.proj)[:, 1:])
    assert torch.equal(
        features.global_Bd, tiny_backbone.encode_image(images, ImageNeeds(local="value_block")).global_Bd
    )


def test_value_attention_is_refused_where_blocks_do_not_have_it(tiny_resnet):
    with pytest.raises(CapabilityError, match="value_attention are needed; the blocks of this ResNet cannot"):
        tiny_resnet.encode_image(torch.zeros(1, 3, 64, 64), ImageNeeds(local="value_attention"))


def test_a_class_map_sees_past_value_attention(tiny_backbone, images):
    """What the logits make of the pooled feature is explained as ever: the path is no part of the last attention."""
    maps = [
        tiny_backbone.vision.class_map(images, ImageNeeds(local=local), VisualPrompts(), lambda f: f.global_Bd[:, 0])
        for local in ("value_block", "value_attention")
    ]
    assert torch.equal(*maps)


def test_value_only_of_a_resnet_is_its_value_block(tiny_resnet):
    """The attention pool has no residual and no MLP to leave out."""
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    of = {local: tiny_resnet.encode_image(images, ImageNeeds(local=local)).local_BNc for local in LOCAL}
    assert torch.equal(of["value_only"], of["value_block"])
    assert not torch.allclose(of["value_only"], of["tokens"], atol=1e-3)


def test_tokens_are_the_towers_own(tiny_model, tiny_backbone, images):
    visual = copy.deepcopy(tiny_model.visual)
    visual.output_tokens = True
    pooled, tokens = visual(images)
    features = tiny_backbone.encode_image(images, ImageNeeds(local="tokens", space="pre_proj"))
    close(features.global_Bd, pooled)
    close(features.local_BNc, tokens)


def test_no_graph_unless_needed(tiny_backbone, images):
    prompts = VisualPrompts({0: torch.randn(2, 96).requires_grad_()})
    assert not tiny_backbone.encode_image(images, prompts=prompts).global_Bd.requires_grad
    assert tiny_backbone.encode_image(images, ImageNeeds(grad=True), prompts=prompts).global_Bd.requires_grad


def test_bad_prompts_are_refused(tiny_backbone, tiny_resnet, images):
    with pytest.raises(InputError, match="consecutive"):
        tiny_backbone.encode_image(images, prompts=VisualPrompts({0: torch.zeros(1, 96), 2: torch.zeros(1, 96)}))
    with pytest.raises(InputError, match="one shape"):
        tiny_backbone.encode_image(images, prompts=VisualPrompts({0: torch.zeros(1, 95)}))
    with pytest.raises(CapabilityError, match="ResNet"):
        tiny_resnet.encode_image(torch.zeros(1, 3, 64, 64), prompts=VisualPrompts({0: torch.zeros(1, 32)}))

"""Which blocks the engines can run: judged by their parts."""

from __future__ import annotations

import open_clip
import pytest
import torch
from open_clip.transformer import CustomResidualAttentionBlock, ResidualAttentionBlock
from torch import nn

from tests.backbones.coming_attention import ComingAttention, with_coming_attention
from tests.backbones.test_text import close
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.openclip.blocks import ResidualBlock, unfit
from vlmprompt.errors import CapabilityError
from vlmprompt.testing import tiny_clip


def seeded(build):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build().eval()


def test_a_model_with_the_coming_attention_gives_its_own_features(tokenizer):
    model = with_coming_attention(tiny_clip())
    assert sum(isinstance(module, ComingAttention) for module in model.modules()) == 6
    backbone = Backbone.from_model(model, tokenizer)
    texts = ["a cat", "a tram in the rain"]
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        close(backbone.text.encode_sentences(texts), model.encode_text(open_clip.tokenize(texts)))
        close(backbone.encode_image(images).global_Bd, model.encode_image(images))


@pytest.mark.parametrize(
    ("option", "part"),
    [
        ("qk_norm", "ln_q"),
        ("scaled_cosine", "logit_scale"),
        ("scale_heads", "head_scale"),
        ("inner_norm", "ln_inner"),
    ],
)
def test_an_attention_with_more_parts_is_refused_by_the_part(tokenizer, option, part):
    with pytest.raises(CapabilityError, match=f"its attention has a {part}"):
        Backbone.from_model(with_coming_attention(tiny_clip(), option), tokenizer)


def test_open_clips_custom_block_is_served_where_it_is_a_plain_one():
    """Its attention is a module of its own today: the values of its own forward."""
    block = seeded(lambda: CustomResidualAttentionBlock(64, 4))
    assert unfit(block) is None
    x = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        close(ResidualBlock(block).run(x), block(x))
        close(ResidualBlock(block).head(x, 2), block(x)[:, :2])


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("scale_attn", "its block has a ln_attn"),
        ("scale_fc", "its MLP has a ln"),
        ("scale_attn_inner", "its attention has a ln_inner"),
        ("scale_heads", "its attention has a head_scale"),
        ("scale_cosine_attn", "its attention has a logit_scale"),
    ],
)
def test_open_clips_custom_block_is_refused_with_its_options(option, reason):
    assert unfit(CustomResidualAttentionBlock(64, 4, **{option: True})) == reason


def test_blocks_without_a_bias_of_queries_keys_and_values():
    """Values, and those of tokens that attend to themselves: one token alone attends to nothing else."""
    block = seeded(lambda: ResidualAttentionBlock(64, 4))
    block.attn = ComingAttention(block.attn)
    block.attn.in_proj_bias = None
    assert unfit(block) is None
    x = torch.randn(2, 1, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        close(ResidualBlock(block).run(x, causal=True), block(x))
        close(ResidualBlock(block).head(x, 1), block(x))
        close(ResidualBlock(block).alone(x), block(x))
        close(ResidualBlock(block).value_path(x), block.attention(block.ln_1(x)))


class Rotary(nn.MultiheadAttention):
    """A part without weights that changes the numbers."""

    def __init__(self) -> None:
        super().__init__(64, 4, batch_first=True)
        self.rope = nn.Module()


@pytest.mark.parametrize(
    ("attention", "reason"),
    [
        (lambda: nn.MultiheadAttention(64, 4), "its attention wants the batch second"),
        (lambda: nn.MultiheadAttention(64, 4, batch_first=True, add_bias_kv=True), "its attention has a bias_k"),
        (lambda: nn.MultiheadAttention(64, 4, batch_first=True, add_zero_attn=True), "its attention adds a zero token"),
        (
            lambda: nn.MultiheadAttention(64, 4, batch_first=True, kdim=32),
            "its attention has no fused projection of queries, keys and values",
        ),
        (nn.Identity, "its attention has no out_proj"),
        (Rotary, "its attention has a rope"),
    ],
)
def test_other_attentions_are_refused(attention, reason):
    block = ResidualAttentionBlock(64, 4)
    block.attn = attention()
    assert unfit(block) == reason


def test_other_blocks_are_refused():
    assert unfit(nn.Linear(2, 2)) == "its block has no attn"
    cross = ResidualAttentionBlock(64, 4, is_cross_attention=True)
    assert unfit(cross) == "its block has a ln_1_kv"
    scaled = ResidualAttentionBlock(64, 4)
    scaled.attn = ComingAttention(scaled.attn)
    scaled.attn.scale = 1.0
    assert unfit(scaled) == "its attention has a scale of its own"
    unbiased = ResidualAttentionBlock(64, 4)
    unbiased.mlp.c_proj = nn.Linear(256, 64, bias=False)
    assert unfit(unbiased) == "its MLP has no biases"

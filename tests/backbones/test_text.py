"""The text engine against open_clip and against the plain 77-position way: values and gradients."""

from __future__ import annotations

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backbones.reference import shared_context
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import TextPrompts
from vlmprompt.errors import InputError
from vlmprompt.testing import tiny_clip

NAMES = ["horse", "tench, fish", "red_panda", "cat", "2007 Chevrolet Silverado 1500 long-bed pickup truck"]


def close(ours: torch.Tensor, reference: torch.Tensor, tolerance: float = 1e-5) -> None:
    """Maximum error relative to the largest reference value."""
    assert ours.shape == reference.shape
    assert (ours - reference).abs().max() <= tolerance * reference.abs().max().clamp_min(1e-30)


def test_template_equals_encode_text(tiny_model, tiny_backbone):
    written = [f"a photo of a {name.replace('_', ' ')}." for name in NAMES]
    close(
        tiny_backbone.text.encode_template("a photo of a {}.", NAMES),
        tiny_model.encode_text(open_clip.tokenize(written)),
    )


@pytest.mark.parametrize("tail", [".", ""])
@pytest.mark.parametrize("chunk", ["auto", 1, 2])
def test_shared_context_values_and_gradients(tiny_model, tiny_backbone, tokenizer, tail, chunk):
    ctx_PVD = torch.randn(3, 5, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    weights = torch.randn(3, len(NAMES), 32, generator=torch.Generator().manual_seed(2))
    tokens = tiny_backbone.text.class_tokens(NAMES, tail=tail)
    ours = tiny_backbone.text.encode(TextPrompts(ctx_PVD), tokens, chunk=chunk)
    plain = torch.stack([shared_context(tiny_model, tokenizer, NAMES, ctx, tail=tail) for ctx in ctx_PVD])
    close(ours, plain)
    (ours_grad,) = torch.autograd.grad((ours * weights).sum(), ctx_PVD)
    (plain_grad,) = torch.autograd.grad((plain * weights).sum(), ctx_PVD)
    close(ours_grad, plain_grad)
    assert (ours_grad.flatten(1).abs().amax(dim=1) > 0).all()


@pytest.mark.parametrize("slots", [1, 3, 5])
def test_deep_prompts_values_and_gradients(tiny_model, tiny_backbone, tokenizer, slots):
    g = torch.Generator().manual_seed(slots)
    ctx_VD = torch.randn(5, 64, generator=g).requires_grad_()
    deep = {i: torch.randn(slots, 64, generator=g).requires_grad_() for i in (1, 2)}
    weights = torch.randn(len(NAMES), 32, generator=g)
    prompts = TextPrompts(ctx_VD[None], deep={i: t[None] for i, t in deep.items()})
    ours = tiny_backbone.text.encode(prompts, tiny_backbone.text.class_tokens(NAMES))[0]
    plain = shared_context(tiny_model, tokenizer, NAMES, ctx_VD, deep=deep)
    close(ours, plain)
    inputs = [ctx_VD, *deep.values()]
    for a, b in zip(
        torch.autograd.grad((ours * weights).sum(), inputs),
        torch.autograd.grad((plain * weights).sum(), inputs),
        strict=True,
    ):
        close(a, b)


def test_words_between_context_and_class(tiny_model, tiny_backbone):
    """With the words' own embeddings as context, `[a photo] of a {}` is the sentence itself."""
    ctx_VD = tiny_backbone.text.embed_words("a photo")
    prompts = TextPrompts(ctx_VD[None], words="of a")
    ours = tiny_backbone.text.encode(prompts, tiny_backbone.text.class_tokens(["cat", "red_panda"]))[0]
    close(ours, tiny_model.encode_text(open_clip.tokenize(["a photo of a cat.", "a photo of a red panda."])))


@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("scope", ["shared", "class", "image"])
def test_every_place_and_scope(tiny_model, tiny_backbone, tokenizer, position, scope):
    """Against texts assembled by hand, one at a time: context of odd length, every scope and position."""
    g = torch.Generator().manual_seed(3)
    lead = {"shared": (), "class": (len(NAMES),), "image": (2,)}[scope]
    ctx = torch.randn(*lead, 2, 5, 64, generator=g).requires_grad_()
    tokens = tiny_backbone.text.class_tokens(NAMES)
    ours = tiny_backbone.text.encode(TextPrompts(ctx, scope=scope, position=position), tokens)
    images = range(2) if scope == "image" else [None]
    plain = []
    for b in images:
        for p in range(2):
            for k, name in enumerate(NAMES):
                c = ctx[p] if scope == "shared" else ctx[k, p] if scope == "class" else ctx[b, p]
                plain.append(_one_text(tiny_model, tokenizer, name, c, position))
    plain = torch.stack(plain).reshape(ours.shape)
    close(ours, plain)
    weights = torch.randn(ours.shape, generator=g)
    close(torch.autograd.grad((ours * weights).sum(), ctx)[0], torch.autograd.grad((plain * weights).sum(), ctx)[0])


def _one_text(model, tokenizer, name, ctx_VD, position):
    table = model.token_embedding.weight
    name_ids = tokenizer.encode(name.replace("_", " "))
    at = {"end": 5, "middle": 2, "front": 0}[position]
    parts = [table[[49406]], ctx_VD[:at], table[name_ids], ctx_VD[at:], table[tokenizer.encode(".")], table[[49407]]]
    x = torch.cat(parts)
    end = len(x) - 1
    x = torch.cat([x, table[[0]].expand(77 - len(x), -1)])[None] + model.positional_embedding
    x = model.transformer(x, attn_mask=model.attn_mask)
    return model.ln_final(x)[0, end] @ model.text_projection


@settings(max_examples=25)
@given(
    names=st.lists(
        st.text("abcdefgh _-'", min_size=1, max_size=20).filter(lambda s: s.strip(" _")), min_size=1, max_size=6
    ),
    n_ctx=st.integers(0, 6),
    chunk=st.sampled_from(["auto", 1, 3]),
)
def test_any_names_any_context(names, n_ctx, chunk, tiny_model, tiny_backbone, tokenizer):
    ctx_VD = torch.randn(n_ctx, 64, generator=torch.Generator().manual_seed(4))
    ours = tiny_backbone.text.encode(TextPrompts(ctx_VD[None]), tiny_backbone.text.class_tokens(names), chunk=chunk)[0]
    close(ours, shared_context(tiny_model, tokenizer, names, ctx_VD))


def test_underscores_kept_on_request(tiny_backbone, tokenizer):
    tokens = tiny_backbone.text.class_tokens(["red_panda"], tail="", keep_underscores=True)
    assert list(tokens.name_ids[0]) == tokenizer.encode("red_panda")
    assert tokens.tail_ids == ((tokenizer.eot_token_id,),)


def test_name_over_the_token_limit_is_named(tiny_backbone):
    tokens = tiny_backbone.text.class_tokens(["cat", "very " * 80 + "long"])
    with pytest.raises(InputError, match=r"very very.*: 100 tokens .* reads 77"):
        tiny_backbone.text.encode(TextPrompts(torch.zeros(1, 16, 64)), tokens)


def test_deep_prompts_may_not_reach_class_names(tiny_backbone):
    prompts = TextPrompts(torch.zeros(1, 2, 64), deep={1: torch.zeros(1, 3, 64)})
    with pytest.raises(InputError, match="overwrite class names"):
        tiny_backbone.text.encode(prompts, tiny_backbone.text.class_tokens(["cat"]))


def test_towers_stay_frozen(tiny_model, tiny_backbone):
    ctx = torch.randn(1, 4, 64).requires_grad_()
    tiny_backbone.text.encode(TextPrompts(ctx), tiny_backbone.text.class_tokens(NAMES)).sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in tiny_model.parameters())


def test_ordinary_gelu_and_linear_projection(tokenizer):
    """The other variants of open_clip's text tower: nn.GELU blocks, a text projection with bias."""
    torch.manual_seed(0)
    model = open_clip.model.CustomTextCLIP(
        embed_dim=32,
        vision_cfg={"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
        text_cfg={"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2, "proj_bias": True},
    ).eval()
    backbone = Backbone.from_model(model, tokenizer)
    close(backbone.text.encode_sentences(["a cat", "two dogs"]), model.encode_text(tokenizer(["a cat", "two dogs"])))


@pytest.mark.parametrize("layers", [1, 2])
def test_shallow_towers(tokenizer, layers):
    model = tiny_clip(text_layers=layers)
    backbone = Backbone.from_model(model, tokenizer)
    close(backbone.text.encode_sentences(["a cat"]), model.encode_text(tokenizer(["a cat"])))

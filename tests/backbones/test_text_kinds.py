"""Text towers of every kind against open_clip's own module with replaced embeddings: values and gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.backbones.test_text import close
from tests.backbones.text_kinds import SLOTS, SmallText, plain
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import TextPrompts
from vlmprompt.errors import InputError
from vlmprompt.methods.build import build_method

# One architecture a kind, and changes that open_clip's configuration knows but no listed architecture uses.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "causal, end token": ("ViT-B-32", {}),
    "causal, a highest token that is not the last id": ("coca_base", {"embed_cls": False}),
    "causal, eos": ("ViT-H-14-worldwide", {}),
    "causal, eos, no start": ("ViT-L-14-worldwide", {}),
    "causal, last position": ("ViT-B-32", {"pool_type": "last"}),
    "short causal": ("PE-Core-B-16", {}),
    "bidirectional, last": ("ViT-B-16-SigLIP2", {}),
    "bidirectional, last, pads as ends": ("ViT-B-16-SigLIP", {}),
    "bidirectional, last, start token": ("ViT-L-14-CLIPA", {}),
    "bidirectional, first": ("ViT-B-16-SigLIP2", {"pool_type": "first"}),
    "bidirectional, end token": ("MobileCLIP2-S0", {}),
    "pads hidden": ("MobileCLIP2-S0", {"use_pad_mask": True}),
    "class token": ("coca_ViT-B-32", {}),
    "class token, corrected mask": ("coca_ViT-B-32", {"correct_cls_mask": True}),
}
# In CLIP's vocabulary "!+" begins with the token 0, which pads are made of.
NAMES = ["horse", "red_panda", "wow !+ cat", "2007 Chevrolet Silverado 1500 pickup"]
TEXTS = ["a photo of a Cat.", "two dogs", "What!!? a very long caption of many words that goes on and on"]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> SmallText:
    return SmallText(*KINDS[request.param])


def grads_close(ours: Tensor, reference: Tensor, inputs: list[Tensor]) -> None:
    close(ours, reference)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(9))
    pairs = [torch.autograd.grad((out * weights).sum(), inputs) for out in (ours, reference)]
    for a, b in zip(*pairs, strict=True):
        close(a, b)
        assert a.abs().amax() > 0


def test_sentences_are_encode_text(kind: SmallText) -> None:
    with torch.no_grad():
        close(kind.engine.encode_sentences(TEXTS), kind.encode_text(TEXTS))
        written = [f"a photo of a {name.replace('_', ' ')}." for name in NAMES]
        close(kind.engine.encode_template("a photo of a {}.", NAMES), kind.encode_text(written))


@pytest.mark.parametrize(("scope", "position"), [("shared", "end"), ("class", "middle"), ("image", "front")])
def test_contexts_of_every_scope_and_place(kind: SmallText, scope: Any, position: Any) -> None:
    n_classes, n_prompts, n_ctx = len(NAMES), 2, 3
    lead = {"shared": (), "class": (n_classes,), "image": (2,)}[scope]
    ctx = torch.randn(*lead, n_prompts, n_ctx, 64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    prompts = TextPrompts(ctx, scope=scope, position=position)
    ours = kind.engine.encode(prompts, kind.engine.class_tokens(NAMES))
    ids = kind.rows(NAMES, n_ctx, position)
    if scope == "class":
        rows = ctx.transpose(0, 1).flatten(0, 1)
    else:
        rows = ctx.reshape(-1, n_ctx, 64).repeat_interleave(n_classes, dim=0)
    reference = plain(kind.model, ids.repeat(len(rows) // n_classes, 1), rows)
    grads_close(ours, reference.reshape(ours.shape), [ctx])


@pytest.mark.parametrize(("axis", "chunk"), [("shared", "auto"), ("class", 3), ("deep by class", 2)])
def test_deep_prompts(kind: SmallText, axis: str, chunk: Any) -> None:
    """Of all classes and of each, behind the start token where there is one, with fixed words behind the context."""
    g = torch.Generator().manual_seed(4)
    n_classes, n_prompts, n_ctx, n_slots = len(NAMES), 2, 2, 3
    lead = (n_classes,) if axis == "class" else ()
    ctx = torch.randn(*lead, n_prompts, n_ctx, 64, generator=g).requires_grad_()
    lead = (n_classes,) if axis == "deep by class" else ()
    deep = torch.randn(*lead, n_prompts, n_slots, 64, generator=g).requires_grad_()
    prompts = TextPrompts(ctx, scope="class" if axis == "class" else "shared", deep={1: deep}, words="of a")
    ours = kind.engine.encode(prompts, kind.engine.class_tokens(NAMES), chunk=chunk)
    ids = kind.rows(NAMES, n_ctx, "end", "of a").repeat(n_prompts, 1)
    rows, slots = (
        t.transpose(0, 1).flatten(0, 1) if t.dim() == 4 else t.repeat_interleave(n_classes, dim=0) for t in (ctx, deep)
    )
    reference = plain(kind.model, ids, rows, {1: slots}, first=len(kind.words.start))
    grads_close(ours, reference.reshape(ours.shape), [ctx, deep])


def test_a_text_that_fills_the_context(kind: SmallText) -> None:
    """And one token less: CoCa's class token sees itself in the first and a pad in the second."""
    room = kind.tokenizer.context_length - 4 - len(kind.words.start) - len(kind.words.end)
    names = ["cat " * room, "cat " * (room - 1), "cat"]
    ctx = torch.randn(1, 4, 64, generator=torch.Generator().manual_seed(5)).requires_grad_()
    ours = kind.engine.encode(TextPrompts(ctx), kind.engine.class_tokens(names, tail=""))
    ids = torch.tensor([kind.framed([*range(SLOTS, SLOTS + 4), *kind.bare(name)]) for name in names])
    grads_close(ours, plain(kind.model, ids, ctx.expand(3, -1, -1))[None], [ctx])
    with pytest.raises(InputError, match=rf"tokens with its prompt, and the text tower reads {len(ids[0])}"):
        kind.engine.encode(TextPrompts(ctx), kind.engine.class_tokens(["cat " * (room + 1)], tail=""))


def test_a_name_too_long_for_sixteen_positions_is_named() -> None:
    engine = SmallText("ViT-SO400M-14-SigLIP", {}).engine
    prompts = TextPrompts(torch.zeros(1, 16, engine.width))
    with pytest.raises(
        InputError,
        match="the text of class 'horse' is too long: 18 tokens with its prompt, and the text tower reads 16",
    ):
        engine.encode(prompts, engine.class_tokens(["horse"]))
    assert engine.encode_sentences(["a horse"]).shape == (1, 48)


def test_logit_bias_does_not_enter_cosines() -> None:
    """It cancels in a softmax over classes; the scale is the model's."""
    kind = SmallText("ViT-B-16-SigLIP2", {})
    kind.model.logit_scale, kind.model.logit_bias = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(-10.0))
    backbone = Backbone.from_model(kind.model, kind.tokenizer)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    logits = build_method("zeroshot", backbone, NAMES)(images).logits
    written = [f"a photo of a {name.replace('_', ' ')}." for name in NAMES]
    with torch.no_grad():
        image_Bd = F.normalize(kind.model.encode_image(images), dim=-1)
        cosines = image_Bd @ F.normalize(kind.encode_text(written), dim=-1).T
    close(logits, math.exp(2.0) * cosines)


def test_towers_stay_as_they_are_in_training(kind: SmallText) -> None:
    """In eval mode and without gradients, whatever mode a method is in."""
    backbone = Backbone.from_model(kind.model.train(), kind.tokenizer)
    digest = backbone.digest
    method = build_method("coop", backbone, NAMES, {"n_ctx": 2}).train()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    method.loss(method(images), torch.tensor([0, 1])).total.backward()
    assert not any(module.training for module in kind.model.modules())
    assert all(parameter.grad is None for parameter in kind.model.parameters())
    backbone.__dict__.pop("digest")
    assert backbone.digest == digest


def test_every_block_counts(kind: SmallText) -> None:
    """Random weights can hide a block; these do not."""
    features = kind.engine.encode_sentences(TEXTS)
    for i in range(kind.engine.layers):
        text = getattr(kind.model, "text", kind.model)
        block = text.transformer.resblocks[i]
        kept = block.mlp.c_proj.weight.data.clone()
        block.mlp.c_proj.weight.data.zero_()
        try:
            changed = kind.engine.encode_sentences(TEXTS)
        finally:
            block.mlp.c_proj.weight.data.copy_(kept)
        assert (features - changed).abs().max() > 0.01 * features.abs().max()

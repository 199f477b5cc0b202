"""Frozen blocks with their own backward pass against the same tower in pieces, which autograd follows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor, nn

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.deltas import LowRank, TowerDeltas
from vlmprompt.backbones.openclip.frozen import frozen_block
from vlmprompt.backbones.text import causal, fused
from vlmprompt.backbones.types import TextPrompts
from vlmprompt.errors import CapabilityError
from vlmprompt.testing import tiny_clip

NAMES = [f"{a} {b}" for a in ("red", "old", "wild") for b in ("horse", "cat", "red panda", "tench")]
NAMES += ["cat", "2007 Chevrolet Silverado 1500 long-bed pickup truck"]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Classes of each chunk that frozen blocks have run."""
    found: list[int] = []
    run = causal.run

    def counted(blocks: Any, part: Any, *inputs: Tensor) -> Tensor:
        found.append(len(part.labels))
        return run(blocks, part, *inputs)

    monkeypatch.setattr(causal, "run", counted)
    yield found
    found.clear()


@lru_cache
def exact(layers: int = 3, *, quick: bool = False, heads: int = 2) -> Backbone:
    """Towers in double precision, whose norms and biases are not those that nobody notices."""
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": heads, "layers": layers}
    vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.model.CLIP(embed_dim=32, vision_cfg=vision, text_cfg=text, quick_gelu=quick).eval().double()
        for parameter in model.transformer.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return Backbone.from_model(model, open_clip.get_tokenizer("ViT-B-16"))


def both(backbone: Backbone, make: Any, names: list[str], *, chunk: Any = "auto") -> tuple[list[Tensor], list[Tensor]]:
    """Features and gradients with frozen blocks, and in pieces.

    Args:
        make: a context and prompts with it.
    """
    classes = backbone.text.class_tokens(names)
    found = []
    for pieces in (False, True):
        ctx, prompts = make()
        with pytest.MonkeyPatch.context() as patch:
            if pieces:
                patch.setattr(causal.CausalTower, "_frozen", lambda *_: None)
            features = backbone.text.encode(prompts, classes, chunk=chunk)
            weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
            found.append([features.detach(), *torch.autograd.grad((features * weights).sum(), ctx)])
    return found[0], found[1]


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64).requires_grad_()


CASES = {
    "shared": lambda: (ctx := drawn(3, 5, 64), TextPrompts(ctx)),
    "one prompt": lambda: (ctx := drawn(1, 4, 64), TextPrompts(ctx)),
    "words": lambda: (ctx := drawn(2, 2, 64), TextPrompts(ctx, words="of a")),
    "of classes": lambda: (ctx := drawn(len(NAMES), 2, 4, 64), TextPrompts(ctx, scope="class")),
    "of images": lambda: (ctx := drawn(2, 2, 3, 64), TextPrompts(ctx, scope="image")),
    "middle": lambda: (ctx := drawn(2, 5, 64), TextPrompts(ctx, position="middle")),
    "front": lambda: (ctx := drawn(2, 5, 64), TextPrompts(ctx, position="front")),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_values_and_gradients(case: str, layers: int, ran: list[int]) -> None:
    ours, plain = both(exact(layers, quick=layers == 2), CASES[case], NAMES)
    assert ran == [len(NAMES)]
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
        assert (b != 0).any()


@pytest.mark.parametrize("chunk", ["auto", 5])
@pytest.mark.parametrize("prompts", [1, 3])
@pytest.mark.parametrize("layers", [(1,), (2,), (1, 2)])
def test_deep_prompts_of_all_classes(
    chunk: Any, prompts: int, layers: tuple[int, ...], ran: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of the context tokens alone, or of the words behind them as well."""
    monkeypatch.setattr(fused, "SHARE", 1.0)
    for n_slots in (2, 5):

        def make(n_slots: int = n_slots) -> tuple[Tensor, TextPrompts]:
            all_PJD = drawn(prompts, 3 + n_slots * len(layers), 64)
            ctx, *deep = all_PJD.split([3, *[n_slots] * len(layers)], dim=1)
            return all_PJD, TextPrompts(ctx, deep=dict(zip(layers, deep, strict=True)), words="of a")

        ours, plain = both(exact(), make, NAMES, chunk=chunk)
        assert sum(ran) % len(NAMES) == 0 and ran
        ran.clear()
        for a, b in zip(ours, plain, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
        assert (plain[1].abs().amax(dim=-1) > 0).all()  # of every token


def test_a_prefix_longer_than_a_window_asks(ran: list[int]) -> None:
    """One class of few tokens: the prefix of eleven has four windows of its own."""
    ours, plain = both(exact(heads=4), lambda: (ctx := drawn(2, 10, 64), TextPrompts(ctx)), ["cat"])
    assert ran == [1]
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("chunk", ["auto", 5])
def test_every_chunk_runs_the_prefix(chunk: Any, ran: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept, and computed again in the backward pass."""
    monkeypatch.setattr(causal, "SUFFIX_TOKENS", (8, 0))
    backbone, make = exact(), CASES["shared"]
    both(backbone, make, NAMES, chunk=chunk)
    assert ran == []  # a prefix of six tokens before chunks of some twenty costs more than it saves
    monkeypatch.setattr(fused, "SHARE", 1.0)
    ours, plain = both(backbone, make, NAMES, chunk=chunk)
    assert ran == ([1, 3, 3, 3, 3, 1] if chunk == "auto" else [5, 5, 4] * 2)
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_where_the_tower_is_changed_it_runs_in_pieces(ran: list[int], tiny_backbone: Backbone) -> None:
    classes = tiny_backbone.text.class_tokens(NAMES)
    ctx, more = torch.zeros(1, 4, 64), torch.ones(2, 64)
    of_classes = more.expand(len(NAMES), 1, -1, -1)
    tiny_backbone.text.encode(TextPrompts(ctx, deep={1: of_classes}), classes)
    tiny_backbone.text.encode(TextPrompts(ctx, inserted={1: more[None]}), classes)
    delta = LowRank(more, torch.ones(64, 2))
    tiny_backbone.text.encode(TextPrompts(ctx, deltas=TowerDeltas({0: {"q": delta}})), classes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tiny_backbone.text.encode(TextPrompts(ctx), classes)
    assert ran == []
    tiny_backbone.text.encode(TextPrompts(ctx), classes)
    assert ran == [len(NAMES)]


def block(**parts: Any) -> Any:
    found = tiny_clip().transformer.resblocks[0].requires_grad_(False)
    for name, part in parts.items():
        setattr(found, name, part)
    return found


def test_a_block_of_another_kind_is_none() -> None:
    assert frozen_block(block()) is not None
    learning, cast, hooked, scaled = block().requires_grad_(), block().half(), block(), block(ls_1=nn.Linear(64, 64))
    hooked.mlp.c_fc.register_forward_hook(lambda *_: None)
    unbiased, normless, relu = block(), block(ln_2=nn.Identity()), block()
    unbiased.attn.in_proj_bias = None
    relu.mlp.gelu = nn.ReLU()
    adapted, shifted = block(), block()
    adapted.mlp.c_proj.__class__ = type("Adapted", (nn.Linear,), {})
    shifted.ln_1.__class__ = type("Shifted", (nn.LayerNorm,), {})
    for other in (learning, cast, hooked, scaled, unbiased, normless, relu, adapted, shifted):
        assert frozen_block(other) is None


@pytest.mark.parametrize("prompts", [1, 2])
def test_who_asks_for_second_derivatives_is_told(prompts: int, ran: list[int]) -> None:
    """And gets no zeros."""
    text = exact().text

    def loss(ctx: Tensor) -> Tensor:
        return text.encode(TextPrompts(ctx), text.class_tokens(NAMES)).square().sum()

    ctx = drawn(prompts, 4, 64)
    with pytest.raises(CapabilityError, match="no second derivatives"):
        torch.autograd.functional.hvp(loss, ctx, torch.ones_like(ctx))  # type: ignore[no-untyped-call]
    with pytest.raises(CapabilityError, match="no second derivatives"):
        torch.autograd.grad(loss(ctx), ctx, create_graph=True)
    assert ran


def test_gelu_by_its_tangent_formula() -> None:
    backbone = exact.__wrapped__()
    for one in backbone.model.transformer.resblocks:
        one.mlp.gelu = nn.GELU("tanh")
    ours, plain = both(backbone, CASES["shared"], NAMES)
    other, _ = both(exact(), CASES["shared"], NAMES)
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
    assert (ours[0] - other[0]).abs().max() > 1e-6

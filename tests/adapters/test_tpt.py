"""TPT against a plain loop over the tower's own module, with its token table, positions and blocks."""

from __future__ import annotations

import math

import open_clip
import pytest
import torch
from torch import Tensor, nn

from vlmprompt.api import Backbone, ImageFeatures, build_method

NAMES = ["cat", "red_panda", "tench, fish", "owl"]
WIDTH = 32


def features_of(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(seed))


def text_by_hand(model: nn.Module, tokenizer: open_clip.SimpleTokenizer, ctx_VD: Tensor) -> Tensor:
    """Features of "<context> name." by open_clip's own forward steps, the context's embeddings put in: (K,d)."""
    words = "a photo of a "
    tokens = open_clip.tokenize([words + name.replace("_", " ") + "." for name in NAMES])
    x = model.token_embedding(tokens).clone()
    x[:, 1 : 1 + len(ctx_VD)] = ctx_VD
    x = model.transformer(x + model.positional_embedding, attn_mask=model.attn_mask)
    x = model.ln_final(x)[torch.arange(len(NAMES)), tokens.argmax(dim=-1)]
    return nn.functional.normalize(x @ model.text_projection, dim=-1)


def by_hand(
    model: nn.Module, tokenizer: open_clip.SimpleTokenizer, views: Tensor, *, scale: float, steps: int, lr: float
) -> tuple[Tensor, Tensor]:
    """Tuned context and logits of the plain view; the step of AdamW is written out."""
    with torch.no_grad():
        ids = tokenizer.encode("a photo of a")
        ctx = model.token_embedding(torch.tensor(ids)).clone()
    unit = views / views.norm(dim=1, keepdim=True)
    mean, square = torch.zeros_like(ctx), torch.zeros_like(ctx)
    kept = None
    for step in range(1, steps + 1):
        ctx = ctx.detach().requires_grad_()
        p = (scale * unit @ text_by_hand(model, tokenizer, ctx).T).softmax(dim=1)
        if kept is None:
            kept = sorted(range(len(views)), key=(-(p * p.log()).sum(dim=1)).tolist().__getitem__)[: len(views) // 10]
        together = p[kept].mean(dim=0)
        (-(together * together.log()).sum()).backward()
        grad = ctx.grad
        assert grad is not None
        mean, square = 0.9 * mean + 0.1 * grad, 0.999 * square + 0.001 * grad**2
        direction = (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
        ctx = ctx.detach() * (1 - lr * 0.01) - lr * direction
    with torch.no_grad():
        return ctx, scale * unit[:1] @ text_by_hand(model, tokenizer, ctx).T


@pytest.mark.parametrize("steps", [1, 3])
def test_each_image_is_tuned_for_itself(
    steps: int, tiny_backbone: Backbone, tiny_model: nn.Module, tokenizer: open_clip.SimpleTokenizer
) -> None:
    method = build_method("tpt", tiny_backbone, NAMES, {"views": 30, "steps": steps})
    views = features_of(60)
    output = method.frozen()(ImageFeatures(views))
    assert output.logits.shape == (2, 4) and not output.logits.requires_grad
    for i in range(2):
        own = views[30 * i : 30 * (i + 1)]
        # A step of AdamW is as large for a small gradient as for a large one: its sign is what rounding could turn.
        ctx, logits = by_hand(tiny_model, tokenizer, own, scale=tiny_backbone.scale, steps=steps, lr=0.005)
        torch.testing.assert_close(method.tuned(own / own.norm(dim=1, keepdim=True)), ctx, rtol=0, atol=2e-4)
        torch.testing.assert_close(output.logits[i], logits[0], rtol=1e-3, atol=1e-3)
    start = method.eval()(ImageFeatures(views[::30])).logits
    assert (output.logits - start).abs().max() > 0.1
    assert all(p.grad is None for p in tiny_model.parameters())


def test_the_step_lowers_the_entropy_of_what_the_kept_views_say(tiny_backbone: Backbone) -> None:
    method = build_method("tpt", tiny_backbone, NAMES, {"views": 40, "lr": 0.001})
    views = torch.nn.functional.normalize(features_of(40, 4), dim=1)

    def said(ctx_VD: Tensor) -> float:
        text = torch.nn.functional.normalize(tiny_backbone.text.encode(method.text_prompts(), method.classes)[0], dim=1)
        if ctx_VD is not method.ctx_VD:
            prompts = type(method.text_prompts())(ctx_VD[None])
            text = torch.nn.functional.normalize(tiny_backbone.text.encode(prompts, method.classes)[0], dim=1)
        p_AK = (tiny_backbone.scale * views @ text.T).softmax(dim=1)
        mean_K = p_AK[kept].mean(dim=0)
        return float(-(mean_K * mean_K.log()).sum())

    with torch.no_grad():
        text_Kd = torch.nn.functional.normalize(
            tiny_backbone.text.encode(method.text_prompts(), method.classes)[0], dim=1
        )
        p_AK = (tiny_backbone.scale * views @ text_Kd.T).softmax(dim=1)
        kept = (-(p_AK * p_AK.log()).sum(dim=1)).argsort()[:4]
        assert said(method.tuned(views)) < said(method.ctx_VD) < math.log(4)


def test_local_features_are_matched_with_each_images_own_text(tiny_backbone: Backbone) -> None:
    method = build_method("tpt", tiny_backbone, NAMES, {"views": 10}).with_local()
    images = torch.randn(2, 10, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    local = method.frozen()(images).local
    assert local is not None and local.classes.shape == (2, 4, WIDTH)
    assert local.features_BNd.shape == (2, 16, WIDTH) and not torch.equal(local.classes[0], local.classes[1])

"""A whole GalLoP training step against the straightforward one: 77 text positions, the image tower in every step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import plain
from benchmarks.arithmetic import BLOCK, KEYS_VALUES, Tower, needed_text, plain_text
from benchmarks.frame import Mark, Row, relative_error, side_by_side
from benchmarks.names import SHORT
from vlmprompt.api import ImageFeatures, MethodOutput, PromptMethod, build_method

IMAGES, PATCH_VALUES = 8, 3 * 16 * 16


def measure(repeats: int = 3) -> list[Row]:
    """The ratios of the steps, with the tower and with cached features, beside what the arithmetic allows."""
    model, tokenizer, backbone = plain.build()
    generator = torch.Generator().manual_seed(0)
    method = build_method("gallop", backbone, SHORT, generator=generator)
    images = torch.randn(IMAGES, 3, 224, 224, generator=generator)
    labels = torch.randint(len(SHORT), (IMAGES,), generator=generator)
    features = method.encode_images(images)
    kept = {"dropout_idx": torch.randint(4, (IMAGES, 1), generator=generator)}
    ids = plain.tokens(tokenizer, SHORT)
    run = partial(step, method, labels, kept)
    slow = partial(run, partial(plain_output, method, model, images, ids))
    fast, cached = partial(run, lambda: method(images)), partial(run, lambda: method(features))
    reference = slow()
    apart = max(relative_error(a, b) for run in (fast, cached) for a, b in zip(run(), reference, strict=True))
    plain_s, engine_s, cached_s = side_by_side({slow: repeats, fast: 3 * repeats, cached: 3 * repeats})
    allowed, allowed_cached = arithmetic_ratios(method)
    figures = {
        "plain s": plain_s,
        "engine s": engine_s,
        "cached s": cached_s,
        "ratio": plain_s / engine_s,
        "arithmetic ratio": allowed,
        "cached ratio": plain_s / cached_s,
        "cached arithmetic ratio": allowed_cached,
    }
    marks = (
        Mark("ratio", plain_s / engine_s, 14),
        Mark("cached ratio", plain_s / cached_s, 25),
        Mark("share of the arithmetic ratio", plain_s / engine_s / allowed, 0.8),
        Mark("relative gradient error", apart, 1e-4, at_least=False),
    )
    return [Row("gallop_step", f"ViT-B/16, K={len(SHORT)}, B={IMAGES}", figures, marks)]


def step(
    method: PromptMethod, labels: Tensor, draws: dict[str, Tensor], forward: Callable[[], MethodOutput]
) -> list[Tensor]:
    """Forward, backward and update (at rate 0, so that every repeat does the same); the gradients."""
    optimizer = torch.optim.SGD(method.trainable_parameters(), lr=0.0, momentum=0.9)
    optimizer.zero_grad()
    method.loss(forward(), labels, draws=draws).total.backward()
    optimizer.step()
    return [p.grad.clone() for p in method.trainable_parameters() if p.grad is not None]


def plain_output(method: PromptMethod, model: Any, images: Tensor, ids: Tensor) -> MethodOutput:
    """The same prompts and map through the straightforward towers, all similarities at once."""
    state = dict(method.named_parameters())
    with torch.no_grad():
        features = plain_features(model, images)
    assert features.local_BNc is not None
    local_BNd = features.local_BNc @ state["local_proj.linear.weight"].T @ model.visual.proj
    text = {name: plain_text_features(model, ids, state[name]) for name in ("global_prompt", "local_prompts")}
    sim_BNKn = torch.einsum("bnd,pkd->bnkp", F.normalize(local_BNd, dim=-1), text["local_prompts"])
    best = [sim_BNKn[..., j].topk(k, dim=1).values.mean(dim=1) for j, k in enumerate((5, 10, 15, 20))]
    own_BKm = torch.einsum("bd,pkd->bkp", F.normalize(features.global_Bd, dim=-1), text["global_prompt"])
    aux = {"global_cosines_BKm": own_BKm, "local_topk_BKn": torch.stack(best, dim=-1)}
    return MethodOutput(own_BKm.mean(dim=-1), method.scale, aux=aux)


def plain_text_features(model: Any, ids: Tensor, prompts_pVD: Tensor) -> Tensor:
    """Unit features (p,K,d)."""
    return F.normalize(torch.stack([plain.encode_text(model, ids, prompt_VD) for prompt_VD in prompts_pVD]), dim=-1)


def plain_features(model: Any, images: Tensor) -> ImageFeatures:
    """The pooled feature, and patches of the last block's value path, from open_clip's own blocks."""
    visual = model.visual
    patches_BNc = visual.conv1(images).flatten(2).transpose(1, 2)
    cls_B1c = visual.class_embedding.expand(len(images), 1, -1)
    x_BTc = visual.ln_pre(torch.cat([cls_B1c, patches_BNc], dim=1) + visual.positional_embedding)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        x_BTc = block(x_BTc)
    c, attn, own_BNc = x_BTc.shape[-1], last.attn, x_BTc[:, 1:]
    value_BNc = F.linear(last.ln_1(own_BNc), attn.in_proj_weight[2 * c :], attn.in_proj_bias[2 * c :])
    own_BNc = own_BNc + attn.out_proj(value_BNc)
    local_BNc = visual.ln_post(own_BNc + last.mlp(last.ln_2(own_BNc)))
    return ImageFeatures(visual.ln_post(last(x_BTc))[:, 0] @ visual.proj, local_BNc)


def arithmetic_ratios(method: PromptMethod) -> tuple[float, float]:
    """FLOPs of the straightforward step over those strictly needed, with the image tower and without."""
    text, vision = method.backbone.text, method.backbone.vision
    tower = Tower(text.width, text.layers, text.joint_dim)
    n, c, d, sims = vision.n_local, vision.width, vision.joint_dim, IMAGES * len(method.classes) * text.joint_dim
    # The map and the projection forward and backward (features are constants), similarities of 4 prompts.
    spent = plain_text(tower, 8 * len(method.classes)) + IMAGES * _image(vision, whole=True)
    spent += IMAGES * n * (4 * c * c + 4 * c * d) + 6 * sims * n * 4
    return spent / needed_step(method, IMAGES), spent / needed_step(method, IMAGES, cached=True)


def needed_step(method: PromptMethod, n_images: int, *, cached: bool = False) -> float:
    """FLOPs that a step needs with the default prompts and scales.

    Args:
        cached: image features are there already.
    """
    text, vision, classes = method.backbone.text, method.backbone.vision, method.classes
    suffixes = [len(name) + len(tail) for name, tail in zip(classes.name_ids, classes.tail_ids, strict=True)]
    n, c, d, sims = vision.n_local, vision.width, vision.joint_dim, n_images * len(classes) * text.joint_dim
    needed = needed_text(Tower(text.width, text.layers, text.joint_dim), 8, 4, suffixes)
    needed += n_images * n * 4 * c * d + 6 * c * c * d + sims * (2 * n * 4 + 4 * sum((5, 10, 15, 20)))
    return needed if cached else needed + n_images * _image(vision, whole=False)


def _image(vision: Any, *, whole: bool) -> float:
    """FLOPs of an image's forward pass through the tower with the value path of the last block.

    Args:
        whole: the last block for all tokens, not keys and values of all and the rest of the class token.
    """
    n, c, tokens = vision.n_local, vision.width, vision.n_local + 1
    inner = tokens * (BLOCK * c**2 + 4 * c * tokens)
    last = inner + 2 * n * c**2 if whole else (tokens * KEYS_VALUES + BLOCK - KEYS_VALUES) * c**2 + 4 * c * tokens
    value_path = n * 18 * c**2  # output map and MLP
    edges = 2 * n * PATCH_VALUES * c + 2 * c * vision.joint_dim
    return float(edges + (vision.layers - 1) * inner + last + value_path)

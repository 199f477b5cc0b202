"""The plain way, from open_clip's own blocks: every text over all positions, every image token in every layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def text_features(
    model: Any, embeddings_K77D: Tensor, ends_K: Tensor, deep: Mapping[int, Tensor] | None = None
) -> Tensor:
    """Texts given as embeddings (K,77,D) without position; deep: layer -> (S,D) over positions 1..S."""
    x = embeddings_K77D + model.positional_embedding
    for i, block in enumerate(model.transformer.resblocks):
        if deep and i in deep:
            slots = deep[i].expand(len(x), -1, -1)
            x = torch.cat([x[:, :1], slots, x[:, 1 + slots.shape[1] :]], dim=1)
        x = block(x, attn_mask=model.attn_mask)
    x = model.ln_final(x)
    return x[torch.arange(len(x)), ends_K] @ model.text_projection


def shared_context(
    model: Any,
    tokenizer: Any,
    names: Sequence[str],
    ctx_VD: Tensor,
    *,
    tail: str = ".",
    deep: Mapping[int, Tensor] | None = None,
) -> Tensor:
    """`[SOT, ctx, name, tail]` for each class: (K,d)."""
    ids = tokenizer([name.replace("_", " ") + tail for name in names])
    emb = model.token_embedding(ids)
    n_ctx = len(ctx_VD)
    x = torch.cat([emb[:, :1], ctx_VD.expand(len(ids), -1, -1), emb[:, 1 : 77 - n_ctx]], dim=1)
    return text_features(model, x, ids.argmax(dim=-1) + n_ctx, deep)


def image_features(
    model: Any, images: Tensor, prompts: Mapping[int, Tensor], *, after_ln_pre: bool = False, drop_after: bool = False
) -> Tensor:
    """The ViT with prompt tokens at the end: (B,d)."""
    visual = model.visual
    x = visual.conv1(images).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1) + visual.positional_embedding
    n_own = x.shape[1]

    def put(x: Tensor, layer: int) -> Tensor:
        return torch.cat([x[:, :n_own], prompts[layer].expand(len(x), -1, -1)], dim=1)

    if 0 in prompts and not after_ln_pre:
        x = put(x, 0)
    x = visual.ln_pre(x)
    for i, block in enumerate(visual.transformer.resblocks):
        if i in prompts and (i > 0 or after_ln_pre):
            x = put(x, i)
        elif drop_after and prompts and i > max(prompts):
            x = x[:, :n_own]
        x = block(x)
    return visual.ln_post(x)[:, 0] @ visual.proj

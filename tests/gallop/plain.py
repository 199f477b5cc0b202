"""GalLoP the plain way: all 77 text positions, open_clip's own blocks, every similarity written out.

Takes a method's state (named tensors) and options, never its code. Shapes: B images, N patches, K classes, p prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tests.backbones import reference


def text_features(model: Any, tokenizer: Any, names: Sequence[str], prompts_pVD: Tensor) -> Tensor:
    """Unit features (p,K,d) of "[prompt] {name}" without a full stop, names as they are."""
    ids = tokenizer(list(names))
    emb = model.token_embedding(ids)
    features = []
    for prompt_VD in prompts_pVD:
        n_ctx = len(prompt_VD)
        x = torch.cat([emb[:, :1], prompt_VD.expand(len(ids), -1, -1), emb[:, 1 : 77 - n_ctx]], dim=1)
        features.append(reference.text_features(model, x, ids.argmax(dim=-1) + n_ctx))
    stacked = torch.stack(features)
    return stacked / stacked.norm(dim=-1, keepdim=True)


def local_features(model: Any, images: Tensor, weight: Tensor) -> Tensor:
    """Unit features (B,N,d): the last block with its attention matrix replaced by the identity, then the map."""
    visual = model.visual
    if not hasattr(visual, "transformer"):
        f = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(images)))))
        pool = visual.attnpool
        pixels = f.flatten(2).transpose(1, 2)
        z = pool.c_proj(pool.v_proj(pixels)) @ weight.T
        return z / z.norm(dim=-1, keepdim=True)
    x = visual.conv1(images).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1) + visual.positional_embedding
    x = visual.ln_pre(x)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        x = block(x)
    width, heads = x.shape[-1], last.attn.num_heads
    qkv = last.ln_1(x) @ last.attn.in_proj_weight.T + last.attn.in_proj_bias
    values = qkv[..., 2 * width :].unflatten(-1, (heads, -1)).transpose(1, 2)
    identity = torch.eye(x.shape[1]).expand(len(x), heads, -1, -1)
    attended = (identity @ values).transpose(1, 2).flatten(2)
    x = x + last.attn.out_proj(attended)
    x = x + last.mlp(last.ln_2(x))
    z = visual.ln_post(x)[:, 1:] @ weight.T @ visual.proj
    return z / z.norm(dim=-1, keepdim=True)


def global_features(model: Any, images: Tensor) -> Tensor:
    """Unit features (B,d)."""
    z = model.encode_image(images)
    return z / z.norm(dim=-1, keepdim=True)


def similarities(local_BNd: Tensor, text_pKd: Tensor) -> Tensor:
    """All of them: (B,N,K,p)."""
    return torch.einsum("bnd,pkd->bnkp", local_BNd, text_pKd)


def reduced(sim_BNKp: Tensor, scales: Sequence[int]) -> Tensor:
    """(B,K,p): for each image, class and prompt the mean of the k largest, by sorting."""
    out = []
    for p, k in enumerate(scales):
        ordered = sim_BNKp[..., p].sort(dim=1, descending=True).values
        out.append(ordered[:, :k].mean(dim=1))
    return torch.stack(out, dim=-1)


def cross_entropy(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """One loss an image: (B,)."""
    return torch.stack([row.exp().sum().log() - row[y] for row, y in zip(logits_BK, labels_B.tolist(), strict=True)])


def total_loss(
    state: Mapping[str, Tensor],
    model: Any,
    tokenizer: Any,
    images: Tensor,
    names: Sequence[str],
    labels_B: Tensor,
    *,
    scales: Sequence[int],
    kept: Sequence[Sequence[int]],
) -> Tensor:
    """L_global + L_local as the released code has them, with the prompts that each image keeps."""
    scale = model.logit_scale.exp()
    text_g = text_features(model, tokenizer, names, state["global_prompt"])
    text_l = text_features(model, tokenizer, names, state["local_prompts"])
    g_BKm = torch.einsum("bd,mkd->bkm", global_features(model, images), text_g)
    local_BNd = local_features(model, images, state["local_proj.linear.weight"])
    l_BKn = reduced(similarities(local_BNd, text_l), scales)
    own = torch.stack([g_Km[:, list(chosen)].mean(dim=-1) for g_Km, chosen in zip(g_BKm, kept, strict=True)])
    local = [cross_entropy(scale * l_BKn[..., j], labels_B).mean() for j in range(l_BKn.shape[-1])]
    return cross_entropy(scale * own, labels_B).mean() + torch.stack(local).mean()

"""open_clip's own vision transformer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmprompt.backbones.openclip.blocks import unfit_any
from vlmprompt.backbones.openclip.image_blocks import frozen_blocks
from vlmprompt.backbones.types import LocalKind
from vlmprompt.backbones.vision.tower import ImageBlock


class ClassTokenViT:
    """A ViT read at its class token: a `TokenTower`.

    Args:
        visual: the module; whether it can be run says `unfit_vit`.
    """

    kind = "ViT, class token"
    n_special = 1
    pooled: int | None = 1

    def __init__(self, visual: Any, joint_dim: int) -> None:
        self._visual = visual
        self.blocks: Sequence[ImageBlock] = frozen_blocks(visual.transformer.resblocks)
        self.width = int(visual.class_embedding.shape[-1])
        self.joint_dim = joint_dim
        self.grid: tuple[int, int] = tuple(visual.grid_size)

    @property
    def projection(self) -> Tensor | None:
        """The last linear map (c,d)."""
        return self._visual.proj

    def embed(self, images: Tensor) -> Tensor:
        """See `TokenTower.embed`."""
        v = self._visual
        patches_BNc = v.conv1(images).flatten(2).transpose(1, 2)
        cls_B1c = v.class_embedding.to(patches_BNc.dtype).expand(len(images), 1, -1)
        return torch.cat([cls_B1c, patches_BNc], dim=1) + v.positional_embedding.to(patches_BNc.dtype)

    def enter(self, x_BTc: Tensor) -> Tensor:
        """See `TokenTower.enter`."""
        return self._visual.ln_pre(x_BTc)

    def pool(self, x_BTc: Tensor) -> Tensor:
        """See `TokenTower.pool`."""
        return self._visual.ln_post(x_BTc[:, 0])

    def local(self, x_BNc: Tensor, kind: LocalKind) -> Tensor:
        """See `TokenTower.local`."""
        return self._visual.ln_post(x_BNc)


class MeanViT(ClassTokenViT):
    """A ViT that is read at the mean of its patches, with its last norm before or behind the mean (CLIPA)."""

    kind = "ViT, mean of patches"
    pooled = None

    def pool(self, x_BTc: Tensor) -> Tensor:
        """See `TokenTower.pool`. The class token is there, and read by the patches alone."""
        v = self._visual
        if v.final_ln_after_pool:
            return v.ln_post(x_BTc[:, 1:].mean(dim=1))
        return v.ln_post(x_BTc)[:, 1:].mean(dim=1)


class PooledViT(ClassTokenViT):
    """A ViT that is read by queries of an attention pool, its class token as one more patch (CoCa).

    Only the queries that are read are asked: the first, or all of which the mean is taken. A patch alone gets
    attention 1 from every query, so the pool's values are what it makes of it.
    """

    kind = "ViT, attention pool"
    pooled = None

    def pool(self, x_BTc: Tensor) -> Tensor:
        """See `TokenTower.pool`."""
        v = self._visual
        pool = v.attn_pool
        keys_BTc = pool.ln_k(x_BTc)
        query_QC = pool.ln_q(pool.query if v.pool_type == "avg" else pool.query[:1])
        asked_BQC = query_QC.expand(len(x_BTc), -1, -1)
        out_BQC = v.ln_post(pool.attn(asked_BQC, keys_BTc, keys_BTc, need_weights=False)[0])
        return out_BQC[:, 1:].mean(dim=1) if v.pool_type == "avg" else out_BQC[:, 0]

    def local(self, x_BNc: Tensor, kind: LocalKind) -> Tensor:
        """See `TokenTower.local`."""
        v = self._visual
        attn = v.attn_pool.attn
        n = attn.embed_dim
        weight = attn.in_proj_weight[2 * n :] if attn.v_proj_weight is None else attn.v_proj_weight
        value_BNC = F.linear(v.attn_pool.ln_k(x_BNc), weight, attn.in_proj_bias[2 * n :])
        return v.ln_post(attn.out_proj(value_BNC))


def open_clip_vit(visual: Any, joint_dim: int) -> ClassTokenViT:
    """open_clip's ViT by how it is read."""
    if visual.attn_pool is not None:
        return PooledViT(visual, joint_dim)
    return (ClassTokenViT if visual.pool_type == "tok" else MeanViT)(visual, joint_dim)


def unfit_vit(visual: Any) -> str | None:
    """Why open_clip's ViT cannot be run; None where it can."""
    if visual.pool_type not in ("tok", "avg"):
        return f"it is pooled by {visual.pool_type!r}"
    if visual.attn_pool is None and visual.pool_type == "tok" and visual.final_ln_after_pool:
        return "its last norm stands behind the pool"
    blocks: Sequence[nn.Module] = visual.transformer.resblocks
    return unfit_any(blocks)

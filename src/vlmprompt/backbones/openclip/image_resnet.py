"""CLIP's ModifiedResNet: convolutions, then an attention pool."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmprompt.backbones.types import LocalKind


class AttentionPoolResNet:
    """A `MapTower`.

    "pre_proj" and "joint" are the same space here: a trained map of local features sits behind `c_proj`.
    "value_only" equals "value_block": there is no residual or MLP to leave out. "tokens" are all outputs of the
    attention pool (PLOT's code).
    """

    kind = "ResNet"
    projection: Tensor | None = None

    def __init__(self, visual: Any, joint_dim: int) -> None:
        self._visual = visual
        self.joint_dim = self.width = joint_dim
        side = int((len(visual.attnpool.positional_embedding) - 1) ** 0.5)
        self.grid = (side, side)

    def map(self, images: Tensor) -> Tensor:
        """The last stage's output (B,N,c)."""
        v = self._visual
        x: Tensor = v.layer4(v.layer3(v.layer2(v.layer1(v.stem(images)))))
        return x.flatten(2).transpose(1, 2)

    def read(self, map_BNc: Tensor, local: LocalKind | None) -> tuple[Tensor, Tensor | None]:
        """See `MapTower.read`."""
        pool = self._visual.attnpool
        pooled_BQd = self._attention_pool(map_BNc, all_queries=local == "tokens")
        local_BNd = None
        if local == "tokens":
            local_BNd = pooled_BQd[:, 1:]
        elif local is not None:
            local_BNd = pool.c_proj(pool.v_proj(map_BNc))
        return pooled_BQd[:, 0], local_BNd

    def _attention_pool(self, f_BNc: Tensor, *, all_queries: bool) -> Tensor:
        """The pool over [mean, positions]; queries of all tokens or of the mean token alone."""
        pool = self._visual.attnpool
        x_BTc = torch.cat([f_BNc.mean(dim=1, keepdim=True), f_BNc], dim=1)
        x_BTc = x_BTc + pool.positional_embedding.to(x_BTc.dtype)
        asked_BQc = x_BTc if all_queries else x_BTc[:, :1]
        q, k, v = (
            proj(tokens).unflatten(-1, (pool.num_heads, -1)).transpose(1, 2)
            for proj, tokens in ((pool.q_proj, asked_BQc), (pool.k_proj, x_BTc), (pool.v_proj, x_BTc))
        )
        heads = F.scaled_dot_product_attention(q, k, v)
        pooled: Tensor = pool.c_proj(heads.transpose(1, 2).flatten(2))
        return pooled

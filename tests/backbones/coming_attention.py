"""The attention module that open_clip's next major version has in place of `nn.MultiheadAttention`.

Made from its parts, named as there: fused `in_proj_weight` and `in_proj_bias`, `out_proj`, `num_heads`, and what
a configuration can switch on (norms of queries and keys, a learned scale of cosines, scales of heads, an inner norm).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ComingAttention(nn.Module):
    """Self-attention with the weights of an `nn.MultiheadAttention`.

    Args:
        options: of `qk_norm`, `scaled_cosine`, `scale_heads`, `inner_norm`.
    """

    def __init__(self, old: nn.MultiheadAttention, *options: str) -> None:
        super().__init__()
        width, heads = old.embed_dim, old.num_heads
        self.num_heads, self.head_dim, self.scale = heads, width // heads, (width // heads) ** -0.5
        self.in_proj_weight, self.in_proj_bias, self.out_proj = old.in_proj_weight, old.in_proj_bias, old.out_proj
        self.q_proj_weight = self.k_proj_weight = self.v_proj_weight = None
        self.ln_q = nn.LayerNorm(width // heads) if "qk_norm" in options else nn.Identity()
        self.ln_k = nn.LayerNorm(width // heads) if "qk_norm" in options else nn.Identity()
        per_head = torch.ones(heads, 1, 1)
        self.logit_scale = nn.Parameter(per_head.clone()) if "scaled_cosine" in options else None
        self.head_scale = nn.Parameter(per_head.clone()) if "scale_heads" in options else None
        self.ln_inner = nn.LayerNorm(width) if "inner_norm" in options else nn.Identity()
        self.attn_drop = self.out_drop = nn.Dropout(0.0)

    def forward(
        self, q_x: Tensor, k_x: Tensor, v_x: Tensor, need_weights: bool, attn_mask: Tensor | None
    ) -> list[Tensor]:
        """As today's block calls it."""
        q, k, v = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in F.linear(q_x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        )
        heads = F.scaled_dot_product_attention(self.ln_q(q), self.ln_k(k), v, attn_mask=attn_mask, scale=self.scale)
        return [self.out_proj(self.ln_inner(heads.transpose(1, 2).flatten(2)))]


def with_coming_attention(model: nn.Module, *options: str) -> nn.Module:
    """The model, its attention modules replaced in place."""
    for module in list(model.modules()):
        if isinstance(getattr(module, "attn", None), nn.MultiheadAttention):
            module.attn = ComingAttention(module.attn, *options)
    return model

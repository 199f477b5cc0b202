"""One pre-norm residual attention block, taken apart so that an engine can run the pieces it needs.

Shapes: * any leading dimensions, T tokens, D width, H heads, h = D/H.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

QUICK_GELU = 1.702


def project_qkv(block: Any, normed: Tensor) -> Tensor:
    """Queries, keys and values of normalised tokens: (*,T,D) -> (3,*,H,T,h)."""
    qkv = F.linear(normed, block.attn.in_proj_weight, block.attn.in_proj_bias)
    heads = block.attn.num_heads
    return qkv.unflatten(-1, (3, heads, -1)).movedim(-3, 0).transpose(-2, -3)


def project_q(block: Any, normed: Tensor) -> Tensor:
    """Queries only: (*,T,D) -> (*,H,T,h)."""
    width = normed.shape[-1]
    q = F.linear(normed, block.attn.in_proj_weight[:width], block.attn.in_proj_bias[:width])
    return q.unflatten(-1, (block.attn.num_heads, -1)).transpose(-2, -3)


def project_kv(block: Any, normed: Tensor) -> Tensor:
    """Keys and values only: (*,T,D) -> (2,*,H,T,h)."""
    width = normed.shape[-1]
    kv = F.linear(normed, block.attn.in_proj_weight[width:], block.attn.in_proj_bias[width:])
    return kv.unflatten(-1, (2, block.attn.num_heads, -1)).movedim(-3, 0).transpose(-2, -3)


def finish(block: Any, x: Tensor, heads_out: Tensor) -> Tensor:
    """Both residual branches after attention: x (*,T,D) and attended heads (*,H,T,h) -> (*,T,D)."""
    attended = block.attn.out_proj(heads_out.transpose(-2, -3).flatten(-2))
    return feed_forward(block, x + block.ls_1(attended))


def feed_forward(block: Any, x: Tensor) -> Tensor:
    """The MLP branch with its residual: (*,T,D) -> (*,T,D)."""
    return x + block.ls_2(mlp(block.mlp, block.ln_2(x)))


def mlp(layers: Any, x: Tensor) -> Tensor:
    """A block's MLP.

    QuickGELU x*sigmoid(1.702x) runs as silu(1.702x)/1.702: one fused kernel and one saved tensor instead of
    three, with both factors applied where the tensor is narrow.
    """
    if type(layers.gelu).__name__ != "QuickGELU":
        return cast(Tensor, layers(x))
    fc, proj = layers.c_fc, layers.c_proj
    hidden = F.silu(F.linear(x * QUICK_GELU, fc.weight, fc.bias * QUICK_GELU))
    return torch.add(proj.bias, F.linear(hidden, proj.weight), alpha=1 / QUICK_GELU)


def run_block(block: Any, x: Tensor, *, causal: bool) -> tuple[Tensor, Tensor, Tensor]:
    """A whole block: (*,T,D) -> the same, with its keys and values (*,H,T,h)."""
    q, k, v = project_qkv(block, block.ln_1(x))
    return finish(block, x, F.scaled_dot_product_attention(q, k, v, is_causal=causal)), k, v


def pool_block(block: Any, x: Tensor) -> Tensor:
    """A block of which only token 0 is read: (B,T,D) -> (B,1,D). Keys and values of all, the rest of one."""
    normed = block.ln_1(x)
    k, v = project_kv(block, normed)
    q = project_q(block, normed[:, :1])
    return finish(block, x[:, :1], F.scaled_dot_product_attention(q, k, v))


def is_standard(block: nn.Module) -> bool:
    """Whether a block has the parts that this file relies on (batch-first `nn.MultiheadAttention`, fused qkv)."""
    attn = getattr(block, "attn", None)
    return (
        isinstance(attn, nn.MultiheadAttention)
        and attn.batch_first
        and attn.in_proj_weight is not None
        and all(hasattr(block, part) for part in ("ln_1", "ls_1", "ln_2", "ls_2"))
        and all(hasattr(getattr(block, "mlp", None), part) for part in ("c_fc", "gelu", "c_proj"))
    )


def causal_bias(length: int, like: Tensor) -> Tensor:
    """(T,T) additive mask: 0 on and below the diagonal, -inf above."""
    return torch.full((length, length), float("-inf"), device=like.device, dtype=like.dtype).triu_(1)

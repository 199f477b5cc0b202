"""A frozen pre-norm block of a causal text tower, forward and backward in as few passes and calls as it takes.

The weights get no gradient, so that the backward pass is that of the input alone, and all of it is written out here: it
needs no graph, biases and residuals are added where a product puts its result, and nothing is copied but what moves.

Shapes: R token rows, N of them after a layer, Q queries, D width, H heads, h = D/H, B, U, X, n, P and M as in
`gathers`, L rows that are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmprompt.backbones.adapting import QUICK_GELU
from vlmprompt.backbones.text.gathers import Gathers
from vlmprompt.backbones.text.maps import Affine, LayerNorm, once_differentiable

Activation = Literal["quick_gelu", "gelu", "gelu_tanh"]
_APPROXIMATE: dict[str, str] = {"gelu": "none", "gelu_tanh": "tanh"}


@dataclass(frozen=True)
class FrozenBlock:
    """x + out(attention(ln_1(x))), then h + proj(activation(fc(ln_2(h)))).

    Attributes:
        qkv: queries, keys and values side by side, heads side by side in each.
    """

    ln_1: LayerNorm
    qkv: Affine
    out: Affine
    ln_2: LayerNorm
    fc: Affine
    proj: Affine
    heads: int
    activation: Activation

    def __call__(self, at: Gathers, learned: Tensor, fixed: Tensor | None = None) -> Tensor:
        """All tokens: (N,D).

        Args:
            learned: rows that gradients flow to (R,D), prefixes first.
            fixed: the suffixes (T,D) where all prompts share theirs; `learned` are the prefixes then.
        """
        return _All.apply(self, at, learned, fixed)

    def last(self, at: Gathers, x_RD: Tensor, asking_Q: Tensor) -> Tensor:
        """Some tokens, attending to all: (Q,D).

        Args:
            asking_Q: their rows, none twice.
        """
        return _Some.apply(self, at, x_RD, asking_Q)


class _All(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, block: FrozenBlock, at: Gathers, learned: Tensor, fixed: Tensor | None) -> Tensor:
        x_RD, residual_ND = learned, learned
        if fixed is not None:
            n_shared = (len(at.answer) // at.heads - len(learned)) // len(fixed)
            x_RD = torch.cat([learned, fixed])
            residual_ND = torch.cat([learned, *[fixed] * n_shared])
        normed, mean, inverse = block.ln_1(x_RD)
        heads_ND, *kept = _attend(block.qkv(normed).view(-1, _head_width(block)), at)
        out_ND, *fed = _feed_forward(block, block.out.onto(residual_ND, heads_ND))
        ctx.block, ctx.at = block, at
        ctx.save_for_backward(x_RD[: at.n_learned], mean[: at.n_learned], inverse[: at.n_learned], *kept, *fed)
        return out_ND

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        block, at = ctx.block, ctx.at
        x_GD, mean, inverse, *kept, h_ND, mean_2, inverse_2, hidden = ctx.saved_tensors
        grad_ND = _feed_forward_back(block, grads[0], h_ND, mean_2, inverse_2, hidden)
        grad_rows = _attend_back(at, block.out.back(grad_ND), *kept).view(at.n_learned, -1)
        grad_GD = block.ln_1.back(block.qkv.back(grad_rows), x_GD, mean, inverse)
        return None, None, grad_GD.add_(grad_ND[: at.n_learned]), None


class _Some(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, block: FrozenBlock, at: Gathers, x_RD: Tensor, asking_Q: Tensor) -> Tensor:
        width = x_RD.shape[1]
        normed, mean, inverse = block.ln_1(x_RD)
        q, kv = block.qkv.rows(0, width), block.qkv.rows(width, 3 * width)
        # Keys and values of all, then the queries of some, head by head.
        rows = x_RD.new_empty(2 * len(x_RD) + len(asking_Q), width)
        kv(normed, out=rows[: 2 * len(x_RD)].view(-1, 2 * width))
        q(normed.index_select(0, asking_Q), out=rows[2 * len(x_RD) :])
        heads_QD, *kept = _attend(rows.view(-1, _head_width(block)), at)
        out_QD, *fed = _feed_forward(block, block.out.onto(x_RD.index_select(0, asking_Q), heads_QD))
        ctx.block, ctx.at = block, at
        ctx.save_for_backward(asking_Q, x_RD, mean, inverse, *kept, *fed)
        return out_QD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        block, at = ctx.block, ctx.at
        asking_Q, x_RD, mean, inverse, *kept, h_QD, mean_2, inverse_2, hidden = ctx.saved_tensors
        width = x_RD.shape[1]
        grad_QD = _feed_forward_back(block, grads[0], h_QD, mean_2, inverse_2, hidden)
        rows = _attend_back(at, block.out.back(grad_QD), *kept).view(-1, width)
        q, kv = block.qkv.rows(0, width), block.qkv.rows(width, 3 * width)
        grad_RD = kv.back(rows[: 2 * len(x_RD)].view(-1, 2 * width))
        grad_RD.index_add_(0, asking_Q, q.back(rows[2 * len(x_RD) :]))
        grad_RD = block.ln_1.back(grad_RD, x_RD, mean, inverse)
        return None, None, grad_RD.index_add_(0, asking_Q, grad_QD), None


def _head_width(block: FrozenBlock) -> int:
    return block.out.weight.shape[1] // block.heads


def _attend(rows: Tensor, at: Gathers) -> tuple[Tensor, Tensor, Tensor]:
    """What each query has attended to, heads side by side (Q,D); with the rows and the attention (B,U,X).

    Args:
        rows: queries, keys and values of one head of one token each (*,h). They are kept rather than what is read of
            them, which is a third more and takes one copy to have again.
    """
    width = rows.shape[1]
    q_BUh, k_BXh, v_BXh = _parts(rows.index_select(0, at.read), at)
    w_BUX = _product(q_BUh, k_BXh.transpose(1, 2), width**-0.5)
    w_BUX.view(-1, *at.bias_nUX.shape).add_(at.bias_nUX)
    w_BUX = torch._softmax(w_BUX, -1, False)
    heads = torch.bmm(w_BUX, v_BXh).view(-1, width).index_select(0, at.answer)
    return heads.view(-1, at.heads * width), rows, w_BUX


def _attend_back(at: Gathers, grad_QD: Tensor, rows: Tensor, w_BUX: Tensor) -> Tensor:
    """Gradients of the projected rows that get one, in their order (*,h)."""
    width = rows.shape[1]
    q_BUh, k_BXh, v_BXh = _parts(rows.index_select(0, at.read), at)
    grad_BUh = grad_QD.view(-1, width).index_select(0, at.asked).view(q_BUh.shape)
    scores_BUX = torch._softmax_backward_data(grad_BUh.bmm(v_BXh.transpose(1, 2)), w_BUX, -1, w_BUX.dtype)
    # Behind the gradients of what was read stand the sums of those of the prefix, which all windows have read.
    n_heads, n_read = at.batch // at.n_windows, len(at.read)
    grads = rows.new_empty(n_read + 2 * n_heads * at.n_prefix, width)
    of_q, of_k, of_v = _parts(grads, at)
    _product(scores_BUX, k_BXh, width**-0.5, out=of_q)
    _product(scores_BUX.transpose(1, 2), q_BUh, width**-0.5, out=of_k)
    torch.bmm(w_BUX.transpose(1, 2), grad_BUh, out=of_v)
    n_keys = k_BXh.shape[1]
    a_window, a_head, n_kv = n_keys * width, n_keys * width * at.n_windows, k_BXh.numel()
    shape, strides = (2, n_heads, at.n_windows, at.n_prefix, width), (n_kv, a_head, a_window, width, 1)
    of_prefix = grads.as_strided(shape, strides, at.n_queries * width)
    torch.sum(of_prefix, dim=2, out=grads[n_read:].view(2, n_heads, at.n_prefix, width))
    return grads.index_select(0, at.back)


def _parts(rows: Tensor, at: Gathers) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (B,U,h), keys and values (B,X,h) of rows that hold them one after the other."""
    width, (_, n_queries, n_keys) = rows.shape[1], at.bias_nUX.shape

    def part(start: int, n: int) -> Tensor:
        # One call in place of a slice and a view.
        return rows.as_strided((at.batch, n, width), (n * width, width, 1), start * width)

    keys = at.batch * n_keys
    return part(0, n_queries), part(at.n_queries, n_keys), part(at.n_queries + keys, n_keys)


def _product(a: Tensor, b: Tensor, scale: float, out: Tensor | None = None) -> Tensor:
    """scale * a @ b of batches, without a pass for the factor."""
    if out is None:
        out = a.new_empty(len(a), a.shape[1], b.shape[2])
    return torch.baddbmm(out, a, b, beta=0, alpha=scale, out=out)


def _feed_forward(block: FrozenBlock, h_QD: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The MLP with its residual; with what its backward pass reads.

    QuickGELU x*sigmoid(1.702x) is silu(1.702x)/1.702: both factors go into products.
    """
    scale = QUICK_GELU if block.activation == "quick_gelu" else 1.0
    normed, mean, inverse = block.ln_2(h_QD)
    hidden = block.fc(normed, scale=scale)
    out_QD = block.proj.onto(h_QD, _activated(hidden, block.activation), scale=1 / scale)
    return out_QD, h_QD, mean, inverse, hidden


def _feed_forward_back(
    block: FrozenBlock, grad_QD: Tensor, h_QD: Tensor, mean: Tensor, inverse: Tensor, hidden: Tensor
) -> Tensor:
    """The gradient of h, its residual included. The factors of QuickGELU undo each other."""
    grad_hidden = _activated_back(block.proj.back(grad_QD), hidden, block.activation)
    return block.ln_2.back(block.fc.back(grad_hidden), h_QD, mean, inverse).add_(grad_QD)


def _activated(hidden: Tensor, activation: Activation) -> Tensor:
    if activation == "quick_gelu":
        return F.silu(hidden)
    return F.gelu(hidden, approximate=_APPROXIMATE[activation])


def _activated_back(grad: Tensor, hidden: Tensor, activation: Activation) -> Tensor:
    if activation == "quick_gelu":
        return torch.ops.aten.silu_backward(grad, hidden)
    return torch.ops.aten.gelu_backward(grad, hidden, approximate=_APPROXIMATE[activation])

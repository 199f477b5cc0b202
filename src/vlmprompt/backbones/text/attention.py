"""Attention of many short runs of tokens behind one prefix, all at once, with a backward pass of its own.

Both passes are the arithmetic of `softmax(q k^T) v` with autograd, in a quarter of the kernels: slots are copied to
where they are read and their gradients are copied back, nothing is filled with zeros and added up, and what is kept is
what the products read.

Shapes: P prompts (or 1, where all share a tensor), H heads, h their width, T flat tokens, M prefix tokens, n windows
of W slots, Q queries in the flat order, U query slots of a window, S query slots of all windows, X = M + W, B = P*H*n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vlmprompt.backbones.text.windows import Windows


def attend(qkv: Tensor, prefix_kv: Tensor, windows: Windows) -> Tensor:
    """Attention of all tokens to `[prefix | own run]`, one softmax.

    Args:
        qkv: (3, P or 1, H, T, h).
        prefix_kv: (2, P, H, M, h).

    Returns:
        (P, H, T, h).
    """
    if _records(qkv, prefix_kv):
        return _Attention.apply(windows, prefix_kv, qkv)
    return _Pass.of(windows, prefix_kv, qkv[0], qkv[1:]).out()


def attend_ends(q: Tensor, kv: Tensor, prefix_kv: Tensor, windows: Windows) -> Tensor:
    """The same, of some queries.

    Args:
        q: (P or 1, H, Q, h).
        kv: (2, P or 1, H, T, h).

    Returns:
        (P, H, Q, h).
    """
    if _records(q, kv, prefix_kv):
        return _Attention.apply(windows, prefix_kv, q, kv)
    return _Pass.of(windows, prefix_kv, q, kv).out()


def _records(*tensors: Tensor) -> bool:
    # Without a gradient to compute, `_Pass` is run directly, so that nothing is kept for a backward pass.
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


@dataclass(frozen=True)
class _Pass:
    """What both passes read, windows in one leading dimension B = P*H*n.

    Attributes:
        q_BUh, k_BXh, v_BXh: queries, and keys and values with the prefix before them.
        w_BUX: attention.
        heads: (P,H).
    """

    windows: Windows
    q_BUh: Tensor
    k_BXh: Tensor
    v_BXh: Tensor
    w_BUX: Tensor
    heads: tuple[int, int]

    @classmethod
    def of(cls, windows: Windows, prefix_kv: Tensor, q: Tensor, kv: Tensor) -> _Pass:
        """The attention of queries (P or 1,H,Q,h) to keys and values (2,P or 1,H,T,h) behind a prefix."""
        _, n_prompts, n_heads, n_prefix, width = prefix_kv.shape
        heads, n = (n_prompts, n_heads), windows.n
        # Without autocast, in the type of q and kv: the backward pass runs outside of the caller's autocast, and its
        # products need factors of one type.
        with torch.autocast(q.device.type, enabled=False):
            # Gathered before it is expanded: rows that all prompts share are gathered once, not P times.
            q_BUh = (
                q.index_select(2, windows.query_S).expand(*heads, -1, -1).reshape(n_prompts * n_heads * n, -1, width)
            )
            own = kv.index_select(3, windows.token_S).unflatten(3, (n, -1)).expand(-1, *heads, -1, -1, -1)
            # (2,P,H,n,M,h): each window gets the prefix of its prompt, in front, as a view until `cat` copies it.
            before = prefix_kv.to(kv.dtype)[:, :, :, None].expand(-1, -1, -1, n, -1, -1)
            k_BXh, v_BXh = torch.cat([before, own], dim=4).flatten(1, 3)
            scores = _product(q_BUh, k_BXh.mT, width**-0.5).unflatten(0, (*heads, n))
            # (P,H,n,U,X). Only a window's own slots need a mask: the prefix is before every token of every run.
            scores[..., n_prefix:].add_(windows.bias_nUW)
            # The softmax sums over X keys, for which half precision has too few digits; only its result is rounded.
            w_BUX = scores.softmax(dim=-1, dtype=_least_float(q.dtype)).to(q.dtype).flatten(0, 2)
        return cls(windows, q_BUh, k_BXh, v_BXh, w_BUX, heads)

    def out(self) -> Tensor:
        """What each query has attended to: (P,H,Q,h), with heads side by side in memory."""
        with torch.autocast(self.w_BUX.device.type, enabled=False):
            out_BUh = torch.bmm(self.w_BUX, self.v_BXh)
        # `_flat` gives (P,Q,1,H,h). The transpose is only a view, so a block can merge H and h again without a copy.
        return self._flat(out_BUh[None], self.windows.answer_Q)[:, :, 0].transpose(1, 2)

    def gradients(self, grad_PHQh: Tensor, n_prefix: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of queries (P,Q,1,H,h), of keys and values (P,T,2,H,h), and of those of the prefix (2,P,H,M,h)."""
        windows, scale = self.windows, self.q_BUh.shape[-1] ** -0.5
        with torch.autocast(grad_PHQh.device.type, enabled=False):
            grad_PHSh = grad_PHQh.index_select(2, windows.query_S)
            if windows.asked_S is not None:
                # An empty query slot holds a copy of some query, whose gradient would be counted again.
                grad_PHSh *= windows.asked_S[:, None]
            grad_BUh = grad_PHSh.reshape(self.q_BUh.shape)
            grad_w_BUX = torch.bmm(grad_BUh, self.v_BXh.mT)
            # w * (grad_w - sum_X(grad_w * w)), by the kernel that autograd itself calls for a softmax.
            scores_BUX = torch._softmax_backward_data(grad_w_BUX, self.w_BUX, -1, self.w_BUX.dtype)
            # Keys and values in one buffer, so that `_flat` takes the rows of both with one `index_select`.
            grad_kv = self.k_BXh.new_empty(2, *self.k_BXh.shape)
            _product(scores_BUX.mT, self.q_BUh, scale, out=grad_kv[0])
            torch.bmm(self.w_BUX.mT, grad_BUh, out=grad_kv[1])
            grad_q_BUh = _product(scores_BUX, self.k_BXh, scale)
            # All n windows of a prompt and head have read the same prefix, so its gradient is the sum over them.
            of_prefix = grad_kv.unflatten(1, (*self.heads, windows.n))[..., :n_prefix, :].sum(dim=3)
        slot_T = windows.behind(n_prefix)
        return self._flat(grad_q_BUh[None], windows.answer_Q), self._flat(grad_kv, slot_T), of_prefix

    def _flat(self, windowed: Tensor, slots: Tensor) -> Tensor:
        """Some slots of (parts,B,slots of a window,h), flat, with parts and heads side by side: (P,T,parts,H,h)."""
        split = windowed.unflatten(1, (*self.heads, self.windows.n)).flatten(3, 4)
        return split.permute(1, 3, 0, 2, 4).index_select(1, slots)


def _product(a: Tensor, b: Tensor, scale: float, out: Tensor | None = None) -> Tensor:
    """scale * a @ b of batches, without a pass for the factor."""
    if out is None:
        out = a.new_empty(len(a), a.shape[1], b.shape[2])
    return torch.baddbmm(out, a, b, beta=0, alpha=scale, out=out)


def _least_float(dtype: torch.dtype) -> torch.dtype:
    """In which a softmax is taken."""
    return torch.promote_types(dtype, torch.float32)


class _Attention(torch.autograd.Function):
    """Of (qkv), or of (q, kv)."""

    @staticmethod
    def forward(ctx: Any, windows: Windows, prefix_kv: Tensor, *own: Tensor) -> Tensor:
        q, kv = own if len(own) == 2 else (own[0][0], own[0][1:])
        done = _Pass.of(windows, prefix_kv, q, kv)
        ctx.save_for_backward(done.q_BUh, done.k_BXh, done.v_BXh, done.w_BUX)
        ctx.windows, ctx.heads, ctx.n_prefix = windows, done.heads, prefix_kv.shape[3]
        ctx.shared = q.shape[0] < done.heads[0]
        return done.out()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q_BUh, k_BXh, v_BXh, w_BUX = ctx.saved_tensors
        done = _Pass(ctx.windows, q_BUh, k_BXh, v_BXh, w_BUX, ctx.heads)
        of_q, of_kv, of_prefix = done.gradients(grads[0], ctx.n_prefix)
        _, wants_prefix, *wants_own = ctx.needs_input_grad
        # `qkv` is one input, with one gradient: queries, keys and values along dimension 2, still side by side.
        parts = [of_q, of_kv] if len(wants_own) == 2 else [torch.cat([of_q, of_kv], dim=2)]
        if ctx.shared:  # one tensor (1,...) was expanded to all prompts: its gradient is the sum over them
            parts = [part.sum(dim=0, keepdim=True) for part in parts]
        laid = [part.permute(2, 0, 3, 1, 4) for part in parts]  # (parts,P,H,T,h)
        if len(laid) == 2:
            laid[0] = laid[0][0]
        own = [grad if wanted else None for grad, wanted in zip(laid, wants_own, strict=True)]
        return (None, of_prefix if wants_prefix else None, *own)

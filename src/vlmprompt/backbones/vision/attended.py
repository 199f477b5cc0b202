"""What a block attends to, and how far that speaks for something: gradient-weighted attention.

Shapes: B images, H heads, Q queries, T keys, S special tokens, N patches, h width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class FirstAttention(TorchFunctionMode):
    """Within, the first attention is computed step by step, and its matrix is kept as a leaf of the graph.

    Every block of a tower attends by torch's `scaled_dot_product_attention`, whoever wrote it, and that gives no
    matrix. Here it is softmax(q k^T / sqrt(h) + mask), cut off from what it was made of: the gradient of what comes out
    of the block with respect to it is what it would be anyway, and nothing before it is part of the graph.

    Attributes:
        matrix_BHQT: after the block; None where nothing has attended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.matrix_BHQT: Tensor | None = None

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See `TorchFunctionMode`."""
        if func is not F.scaled_dot_product_attention or self.matrix_BHQT is not None:
            return func(*args, **(kwargs or {}))
        return self._attend(*args, **(kwargs or {}))

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Towers of images are in eval mode, read in both directions, and have as many keys as queries in each head."""
        scores = query @ key.mT * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, float("-inf"))
        elif attn_mask is not None:
            scores = scores + attn_mask
        self.matrix_BHQT = scores.softmax(dim=-1).detach().requires_grad_()
        return self.matrix_BHQT.to(value.dtype) @ value


def weighted_attention(matrix_BHQT: Tensor, grad_BHQT: Tensor, *, read: Sequence[int], first: int, n: int) -> Tensor:
    """mean_h ReLU(A * dy/dA), in the rows of the tokens that are read, which are summed: (B,N).

    Args:
        read: places of the tokens whose outputs are read.
        first: S, the first patch's place among the keys.
        n: N, the patches.
    """
    patches = slice(first, first + n)
    matrix_BHRN, grad_BHRN = (values[:, :, list(read), patches] for values in (matrix_BHQT.detach(), grad_BHQT))
    weighted_BHRN = (matrix_BHRN * grad_BHRN).relu()
    return weighted_BHRN.mean(dim=1).sum(dim=1)

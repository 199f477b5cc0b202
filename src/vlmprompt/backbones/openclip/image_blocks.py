"""open_clip's residual attention blocks in an image tower, whose passes are the long ones.

Shapes: B images, T tokens, n of them that are read, L prompt tokens, c width, H heads, h = c/H.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmprompt.backbones.openclip.blocks import ResidualBlock
from vlmprompt.backbones.recorded import recorded_linear, records
from vlmprompt.backbones.unrecorded import LinearMap, fits, in_slices

# How many times fewer than numbers of a token its readers are, heads counted, where keys and values are not made.
FEW = 4


class ImageResidualBlock(ResidualBlock):
    """A block with what only towers of images ask for."""

    def head_of_few(self, x_BTc: Tensor, n: int) -> Tensor:
        """`head` without keys and values: a query through the weight of the keys is a query of the tokens themselves.

        With query q and token t of a head, q (W t + b) = (W^T q) t + q b, and the last term, the same for all tokens,
        is none to a softmax. What is attended to is so a mean of tokens, of which the value is taken behind the mean.
        """
        attn, width = self._block.attn, x_BTc.shape[-1]
        of_k_Hhc, of_v_Hhc = attn.in_proj_weight[width:].view(2, attn.num_heads, -1, width)
        normed_BTc = self.norm(x_BTc)
        q_BnHh = self._project(normed_BTc[:, :n], slice(0, 1)).squeeze(2)
        asked_BHnc = torch.einsum("bnhi,hic->bhnc", q_BnHh, of_k_Hhc * of_k_Hhc.shape[1] ** -0.5)
        attention_BUT = (asked_BHnc.flatten(1, 2) @ normed_BTc.mT).softmax(dim=-1)
        read_BHnc = (attention_BUT @ normed_BTc).view(asked_BHnc.shape)
        heads_BHnh = torch.einsum("bhnc,hic->bhni", read_BHnc, of_v_Hhc)
        if attn.in_proj_bias is not None:
            heads_BHnh = heads_BHnh + attn.in_proj_bias[2 * width :].view(attn.num_heads, 1, -1)
        return self.finish(x_BTc[:, :n], heads_BHnh)

    def beside(self, x_BTc: Tensor, prompts_Lc: Tensor) -> Tensor:
        """The block of tokens that attend to prompts as well, which all images share and nobody reads: (B,T,c).

        What is made of the prompts is made once, and nothing of tokens that get no gradient is part of the graph.
        """
        q_BT1Hh, own_BT2Hh = self._project(self.norm(x_BTc), slice(0, 3)).split([1, 2], dim=2)
        shared_L2Hh = self._project(self.norm(prompts_Lc), slice(1, 3))
        kv_BX2Hh = torch.cat([own_BT2Hh, shared_L2Hh.expand(len(x_BTc), -1, -1, -1, -1)], dim=1)
        q, k, v = (part_BXHh.transpose(1, 2) for part_BXHh in (q_BT1Hh.squeeze(2), *kv_BX2Hh.unbind(2)))
        return self.finish(x_BTc, F.scaled_dot_product_attention(q, k, v))


class FrozenBlock(ImageResidualBlock):
    """A `ValueAttentionBlock` that runs by a processor's fast ways where there are some."""

    def run(self, x: Tensor, *, causal: bool = False) -> Tensor:
        """See `ResidualBlock.run`."""
        return self._sliced(x, lambda block, part: block.run(part, causal=causal))

    def head(self, x_BTc: Tensor, n: int) -> Tensor:
        """See `ResidualBlock.head`."""
        if fits(x_BTc) and FEW * n * self._block.attn.num_heads <= x_BTc.shape[-1]:
            return self._sliced(x_BTc, lambda block, part: block.head_of_few(part, n))
        return self._sliced(x_BTc, lambda block, part: block.head(part, n))

    def beside(self, x_BTc: Tensor, prompts_Lc: Tensor) -> Tensor:
        """See `ImageResidualBlock.beside`."""
        return self._sliced(x_BTc, lambda block, part: block.beside(part, prompts_Lc))

    def alone(self, x: Tensor) -> Tensor:
        """See `ResidualBlock.alone`."""
        return self._sliced(x, ResidualBlock.alone)

    def value_path(self, x: Tensor) -> Tensor:
        """See `ResidualBlock.value_path`."""
        return self._sliced(x, ResidualBlock.value_path)

    def attention(self, x: Tensor) -> Tensor:
        """See `ResidualBlock.attention`."""
        return self._sliced(x, ResidualBlock.attention)

    def value_attention(self, x: Tensor) -> Tensor:
        """See `ResidualBlock.value_attention`."""
        return self._sliced(x, ResidualBlock.value_attention)

    def _sliced(self, x_BTc: Tensor, part_of: Callable[[ImageResidualBlock, Tensor], Tensor]) -> Tensor:
        """A part of the block, of which the MLP makes the widest tensor."""
        row_bytes = x_BTc.element_size() * x_BTc.shape[-2] * len(self._block.mlp.c_fc.weight)

        def run(linear: LinearMap, part: Tensor) -> Tensor:
            return part_of(ImageResidualBlock(self._block, linear), part)

        return run(recorded_linear, x_BTc) if records(x_BTc) else in_slices(x_BTc, row_bytes, run)


def frozen_blocks(blocks: Iterable[nn.Module]) -> list[FrozenBlock]:
    """All blocks of an image transformer; see `unfit_any` for whether they can be run."""
    return [FrozenBlock(block) for block in blocks]

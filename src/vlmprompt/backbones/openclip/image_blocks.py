"""open_clip's residual attention blocks in an image tower, whose passes are the long ones.

Shapes: B images, T tokens, n of them that are read, L prompt tokens, c width, H heads, h = c/H.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmprompt.backbones.openclip.blocks import ResidualBlock
from vlmprompt.backbones.unrecorded import LinearMap, in_slices


class ImageResidualBlock(ResidualBlock):
    """A block with what only towers of images ask for."""

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

        return in_slices(x_BTc, row_bytes, run)


def frozen_blocks(blocks: Iterable[nn.Module]) -> list[FrozenBlock]:
    """All blocks of an image transformer; see `unfit_any` for whether they can be run."""
    return [FrozenBlock(block) for block in blocks]

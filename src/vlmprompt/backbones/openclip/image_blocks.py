"""open_clip's residual attention blocks in an image tower, whose passes without gradients are the long ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from vlmprompt.backbones.openclip.blocks import ResidualBlock
from vlmprompt.backbones.unrecorded import LinearMap, in_slices


class FrozenBlock(ResidualBlock):
    """A `ValueAttentionBlock` that runs in slices of the batch where that is faster."""

    def run(self, x: Tensor, *, causal: bool = False) -> Tensor:
        """See `ResidualBlock.run`."""
        return self._sliced(x, lambda block, part: block.run(part, causal=causal))

    def head(self, x_BTc: Tensor, n: int) -> Tensor:
        """See `ResidualBlock.head`."""
        return self._sliced(x_BTc, lambda block, part: block.head(part, n))

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

    def _sliced(self, x_BTc: Tensor, part_of: Callable[[ResidualBlock, Tensor], Tensor]) -> Tensor:
        """A part of the block, of which the MLP makes the widest tensor."""
        row_bytes = x_BTc.element_size() * x_BTc.shape[-2] * len(self._block.mlp.c_fc.weight)

        def run(linear: LinearMap, part: Tensor) -> Tensor:
            return part_of(ResidualBlock(self._block, linear), part)

        return in_slices(x_BTc, row_bytes, run)


def frozen_blocks(blocks: Iterable[nn.Module]) -> list[FrozenBlock]:
    """All blocks of an image transformer; see `unfit_any` for whether they can be run."""
    return [FrozenBlock(block) for block in blocks]

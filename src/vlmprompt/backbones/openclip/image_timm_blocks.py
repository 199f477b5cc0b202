"""The blocks of timm's vision transformers, as an engine runs them: each an `ImageBlock`.

A patch alone is a sequence of one token: its attention matrix is the identity whatever the block computes for
queries and keys, so the block's own code gives the value path.

Shapes: B images, T tokens (S special ones, N patches, then prompts), H heads, c width, h = c/H.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any, Self

import torch
from timm.models.eva import Eva, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block
from timm.models.vision_transformer_relpos import RelPosBlock, VisionTransformerRelPos
from torch import Tensor
from torch.nn import functional as F

from vlmprompt.backbones.adapting import BRANCHES, BlockDeltas, Place
from vlmprompt.backbones.openclip.image_timm_deltas import Changed, parted, places_of
from vlmprompt.backbones.vision.tower import ImageBlock

_KNOWN: tuple[type, ...] = (Block, EvaBlock, EvaBlockPostNorm, RelPosBlock)


def timm_blocks(trunk: Any, n_tokens: int) -> Sequence[ImageBlock]:
    """The blocks of a transformer of timm.

    Args:
        n_tokens: S+N, special tokens and patches.
    """
    blocks: Iterable[Any] = trunk.blocks
    if isinstance(trunk, VisionTransformerRelPos):
        return [RelativeBlock(block, trunk.shared_rel_pos) for block in blocks]
    if isinstance(trunk, Eva) and trunk.rope is not None:
        return [RotaryBlock(block, i, trunk, n_tokens) for i, block in enumerate(blocks)]
    return [PlainBlock(block) for block in blocks]


def unfit_blocks(trunk: Any, *, alone: bool) -> str | None:
    """Why the blocks of a transformer of timm cannot be run; None where they can.

    Args:
        alone: a patch is to be passed alone through the last block, which takes the block apart.
    """
    relative = isinstance(trunk, VisionTransformerRelPos)
    known: tuple[type, ...] = (RelPosBlock,) if relative else _KNOWN[:-1]
    parted: Sequence[Any] = trunk.blocks if relative else trunk.blocks[-1:] if alone else []
    foreign = sorted({type(block).__name__ for block in parted if type(block) not in known})
    return f"it has a {foreign[0]}, which cannot be taken apart" if foreign else None


class PlainBlock:
    """A block that knows no places."""

    def __init__(self, block: Any) -> None:
        self._block = block
        self._own: BlockDeltas | None = None

    @cached_property
    def places(self) -> Mapping[str, Place]:
        """See `Adaptable.places`; nothing for a block of a kind that is not known here."""
        return places_of(self._block) if type(self._block) in _KNOWN else {}

    def adapted(self, own: BlockDeltas) -> Self:
        """See `Adaptable.adapted`."""
        other = copy.copy(self)
        other._own = own
        return other

    def run(self, x_BTc: Tensor) -> Tensor:
        """See `ImageBlock.run`."""
        return self._pass(x_BTc)

    def head(self, x_BTc: Tensor, n: int) -> Tensor:
        """See `ImageBlock.head`."""
        return self.run(x_BTc)[:, :n]

    def alone(self, x_BNc: Tensor) -> Tensor:
        """See `ImageBlock.alone`."""
        return self._pass(x_BNc.reshape(-1, 1, x_BNc.shape[-1])).view_as(x_BNc)

    def value_path(self, x_BNc: Tensor) -> Tensor:
        """See `ImageBlock.value_path`. Where the block's norm stands behind its attention, it belongs to the path."""
        block, x_M1c = self._block, x_BNc.reshape(-1, 1, x_BNc.shape[-1])
        with self._changed():
            if isinstance(block, EvaBlockPostNorm):
                return block.norm1(block.attn(x_M1c)).view_as(x_BNc)
            return block.attn(block.norm1(x_M1c)).view_as(x_BNc)

    def _pass(self, x_BTc: Tensor, **turns: Tensor) -> Tensor:
        """The block with its deltas."""
        with self._changed():
            if self._own is not None and any(part in self._own for part in BRANCHES):
                return parted(self._block, x_BTc, self._own, **turns)
            return self._block(x_BTc, **turns)

    def _changed(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._own is None else Changed(self._own, self.places)


class RotaryBlock(PlainBlock):
    """A block that turns queries and keys of patches by their places. Special tokens and prompts stay as they are."""

    def __init__(self, block: Any, layer: int, trunk: Any, n_tokens: int) -> None:
        super().__init__(block)
        self._layer = layer
        self._trunk = trunk
        self._n_tokens = n_tokens

    def run(self, x_BTc: Tensor) -> Tensor:
        """See `ImageBlock.run`."""
        turns = self._turns()
        n_prompts = x_BTc.shape[1] - self._n_tokens
        if n_prompts:  # by nothing: sine 0, cosine 1
            sine, cosine = turns.new_zeros, turns.new_ones
            none = [make(*turns.shape[:-2], n_prompts, turns.shape[-1] // 2) for make in (sine, cosine)]
            turns = torch.cat([turns, torch.cat(none, dim=-1)], dim=-2)
        return self._pass(x_BTc, rope=turns)

    def _turns(self) -> Tensor:
        """Sines and cosines of the patches' places: (..., N, 2h)."""
        trunk = self._trunk
        rope = trunk.rope
        turns: Tensor = (
            rope.get_embed() if hasattr(rope, "feat_shape") else rope.get_embed(shape=trunk.patch_embed.grid_size)
        )
        return turns[self._layer] if trunk.rope_mixed else turns


class RelativeBlock(PlainBlock):
    """A block whose attention has a bias for each pair of places. Prompts have no place, and a bias of 0."""

    def __init__(self, block: Any, shared: Any) -> None:
        super().__init__(block)
        self._bias: Any = block.attn.rel_pos or shared

    def run(self, x_BTc: Tensor) -> Tensor:
        """See `ImageBlock.run`."""
        bias_HTT = self._bias.get_bias()
        n_prompts = x_BTc.shape[1] - bias_HTT.shape[-1]
        with self._changed():
            return self._finish(x_BTc, self._attention(x_BTc, F.pad(bias_HTT, (0, n_prompts, 0, n_prompts))))

    def alone(self, x_BNc: Tensor) -> Tensor:
        """See `ImageBlock.alone`."""
        with self._changed():
            return self._finish(x_BNc, self._values(x_BNc))

    def value_path(self, x_BNc: Tensor) -> Tensor:
        """See `ImageBlock.value_path`."""
        with self._changed():
            return self._values(x_BNc)

    def _values(self, x_BNc: Tensor) -> Tensor:
        return self._attention(x_BNc.reshape(-1, 1, x_BNc.shape[-1]), None).view_as(x_BNc)

    def _attention(self, x_BTc: Tensor, bias_HTT: Tensor | None) -> Tensor:
        attn = self._block.attn
        qkv = attn.qkv(self._block.norm1(x_BTc)).unflatten(-1, (3, attn.num_heads, -1))
        q, k, v = qkv.movedim(-3, 0).transpose(-2, -3)
        heads = F.scaled_dot_product_attention(attn.q_norm(q), attn.k_norm(k), v, attn_mask=bias_HTT)
        return attn.proj(heads.transpose(1, 2).flatten(2))

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        block, own = self._block, self._own
        beside = None if own is None else own.branch("adapter_attn", block.norm1(x))
        x = x + block.ls1(attended)
        x = x if beside is None else x + beside
        normed = block.norm2(x)
        out = x + block.ls2(block.mlp(normed))
        return out if own is None else out + own.branch("adapter_mlp", normed)

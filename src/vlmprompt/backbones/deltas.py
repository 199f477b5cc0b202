"""Tower deltas: what a method changes inside the blocks of a frozen tower, exactly and for itself alone.

The tower's own weights are never touched. Prompts carry the deltas (`TextPrompts.deltas`, `VisualPrompts.deltas`), and
an engine applies them in every pass over the blocks that they name, reductions to a few positions included.

Parts of a block: the linear maps `q`, `k`, `v` and `o` of its attention and `fc` and `proj` of its MLP, the norms
`ln_1` and `ln_2` before the two (behind them in a post-norm block), and the places beside the two: `adapter_attn` and
`adapter_mlp`.

Shapes: r rank, m width of a bottleneck, in and out of a linear map, D width of a tower.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from torch import Tensor

from vlmprompt.backbones.shaped import Shaped

Activation = Literal["relu", "gelu", "quick_gelu", "none"]
_MIX = 0x9E3779B97F4A7C15  # odd, so that multiples of it spread over all 64 bits


@dataclass(frozen=True, repr=False)
class LowRank(Shaped):
    """W x + b + scale * B A drop(x) in place of W x + b (LoRA, Hu et al., ICLR 2022).

    Attributes:
        A: (r,in).
        B: (out,r).
        dropout: share of the entries of x that A does not see, in a pass that has a seed; W sees all of x.
    """

    A: Tensor
    B: Tensor
    scale: float = 1.0
    dropout: float = 0.0


@dataclass(frozen=True, repr=False)
class Bias(Shaped):
    """Added to what a linear map gives: (out)."""

    bias: Tensor


@dataclass(frozen=True, repr=False)
class Norm(Shaped):
    """Added to weight and bias of a norm: (D) each, None for one that stays."""

    weight: Tensor | None = None
    bias: Tensor | None = None


@dataclass(frozen=True, repr=False)
class Bottleneck(Shaped):
    """scale * up(activation(down(n))) beside attention or MLP, where n is what that branch reads.

    It is added to the branch's output behind any layer scale.

    Attributes:
        down: (m,D), with an optional bias (m).
        up: (D,m), with an optional bias (D).
    """

    down: Tensor
    up: Tensor
    down_bias: Tensor | None = None
    up_bias: Tensor | None = None
    activation: Activation = "relu"
    scale: float = 1.0


Delta = LowRank | Bias | Norm | Bottleneck


class TowerDeltas(Mapping[int, Mapping[str, Delta]]):
    """Block (0 = first) -> part -> delta.

    Parts: `q`, `k`, `v`, `o` (attention), `fc` and `proj` (MLP) take a `LowRank` or a `Bias`; `ln_1` and `ln_2` a
    `Norm`; `adapter_attn` and `adapter_mlp` a `Bottleneck`. Towers have `backbone.text.layers` and
    `backbone.vision.layers` blocks of `width`.

    Dropout is off without a seed. With one, a mask is drawn for each part of each block at each pass over tokens, from
    the seed alone, so that a pass that is computed again for its gradients drops the same. Work that is done once is
    dropped once: where texts share a prefix, all classes see one mask of it, and every chunk of classes has its own.

    Args:
        blocks: the deltas.
        seed: of this step's dropout, a number or a scalar tensor, such as one of a method's `sample_draws`; another one
            for each tower, or both draw the same.
    """

    def __init__(
        self, blocks: Mapping[int, Mapping[str, Delta]] | None = None, *, seed: int | Tensor | None = None
    ) -> None:
        self._blocks = {block: dict(parts) for block, parts in (blocks or {}).items() if parts}
        self.seed = None if seed is None else int(seed)

    def __getitem__(self, block: int) -> Mapping[str, Delta]:
        return self._blocks[block]

    def __iter__(self) -> Iterator[int]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)

    def __repr__(self) -> str:
        return f"TowerDeltas({self._blocks})"

    def tensors(self) -> list[Tensor]:
        """All that gradients may flow to, always in the same order."""
        return [tensor for parts in self.values() for delta in parts.values() for tensor in _tensors(delta).values()]

    def holding(self, tensors: Sequence[Tensor]) -> TowerDeltas:
        """The same with other tensors in these places."""
        rest = iter(tensors)
        blocks = {
            block: {part: _with(delta, {name: next(rest) for name in _tensors(delta)}) for part, delta in own.items()}
            for block, own in self.items()
        }
        return TowerDeltas(blocks, seed=self.seed)

    def keyed(self, key: int) -> TowerDeltas:
        """The same deltas with the masks of another pass."""
        return TowerDeltas(self._blocks, seed=mixed(self.seed, key))


def mixed(seed: int | None, key: int) -> int | None:
    """The seed of one of many independent streams; None stays."""
    if seed is None:
        return None
    bits = (seed + (key + 1) * _MIX) % 2**64
    bits = (bits ^ (bits >> 31)) * _MIX % 2**64
    return (bits ^ (bits >> 29)) % 2**63


def _tensors(delta: Delta) -> dict[str, Tensor]:
    named: list[tuple[str, Any]] = [(field.name, getattr(delta, field.name)) for field in fields(delta)]
    return {name: value for name, value in named if isinstance(value, Tensor)}


def _with(delta: Delta, tensors: Mapping[str, Any]) -> Delta:
    return replace(delta, **tensors)

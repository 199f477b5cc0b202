"""Deltas brought into the blocks of a tower.

A block that takes deltas says where its parts stand (`places`) and gives itself with some of them changed (`adapted`).
From the places follow the check of what a method asks for, and how deltas are merged into weights.

Shapes: * any leading dimensions, r rank, R sum of ranks, in and out of a linear map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmprompt.backbones.deltas import Activation, Bias, Bottleneck, Delta, LowRank, Norm, TowerDeltas, mixed
from vlmprompt.errors import CapabilityError, InputError

BRANCHES = ("adapter_attn", "adapter_mlp")
QUICK_GELU = 1.702  # x * sigmoid(1.702 x)
_KINDS: Mapping[type, str] = {LowRank: "linear", Bias: "linear", Norm: "norm", Bottleneck: "branch"}
_WORDS = {
    "linear": "a linear map, which takes LowRank or Bias",
    "norm": "a norm, which takes Norm",
    "branch": "beside a branch, which takes Bottleneck",
}


@dataclass(frozen=True)
class Place:
    """Where a part of a block stands.

    Attributes:
        kind: what deltas it takes.
        shape: (out,in) of a linear map, (D,) of others.
        weight: the frozen tensor that holds its weight; None beside a branch.
        bias: the one that holds its bias; None where it has none.
        rows: of the weight; None: all.
        bias_rows: of the bias; None: all.
    """

    kind: Literal["linear", "norm", "branch"]
    shape: tuple[int, ...]
    weight: Tensor | None = None
    bias: Tensor | None = None
    rows: slice | None = None
    bias_rows: slice | None = None


class BlockDeltas:
    """The deltas of one block in one pass.

    Args:
        parts: part -> delta.
        seed: of dropout; None: nothing is dropped.
    """

    def __init__(self, parts: Mapping[str, Delta], seed: int | None = None) -> None:
        self._parts = parts
        self._seed = seed
        self._generator: torch.Generator | None = None

    def __contains__(self, part: str) -> bool:
        return part in self._parts

    def add(self, rows: Mapping[str, slice], x: Tensor, y: Tensor) -> Tensor:
        """What linear maps give, with their deltas.

        Args:
            rows: part -> its columns in y.
            x: (*,in), what they read.
            y: (*,out) of all these parts.
        """
        own = {part: (self._parts[part], where) for part, where in rows.items() if part in self._parts}
        low = [(delta, where) for delta, where in own.values() if isinstance(delta, LowRank)]
        width = y.shape[-1]
        if low:
            down_MR = self._down(x, [delta for delta, _ in low]).flatten(0, -2)
            up_RO = torch.cat([_spread(delta.scale * delta.B.T, where, width) for delta, where in low])
            y = torch.addmm(y.flatten(0, -2), down_MR, up_RO).view(y.shape)
        for delta, where in own.values():
            if isinstance(delta, Bias):
                y = y + _spread(delta.bias, where, width)
        return y

    def norm(self, part: str, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Weight and bias of a norm, with their delta."""
        delta = self._parts.get(part)
        if not isinstance(delta, Norm):
            return weight, bias
        return _sum(weight, delta.weight, 1.0), _sum(bias, delta.bias, 0.0)

    def branch(self, part: str, read: Tensor) -> Tensor | float:
        """What stands beside a branch gives: (*,D) -> (*,D); 0 where nothing does."""
        delta = self._parts.get(part)
        if not isinstance(delta, Bottleneck):
            return 0.0
        hidden = _activated(F.linear(read, delta.down, delta.down_bias), delta.activation)
        return delta.scale * F.linear(hidden, delta.up, delta.up_bias)

    def _down(self, x: Tensor, low: Sequence[LowRank]) -> Tensor:
        """A x of several parts side by side, each with a mask of its own: (*,R)."""
        if self._seed is None or not any(delta.dropout for delta in low):
            return F.linear(x, torch.cat([delta.A for delta in low]))
        return torch.cat([F.linear(self._dropped(x, delta.dropout), delta.A) for delta in low], dim=-1)

    def _dropped(self, x: Tensor, rate: float) -> Tensor:
        if self._seed is None or not rate:
            return x
        if self._generator is None:
            self._generator = torch.Generator(x.device).manual_seed(self._seed)
        return x * torch.empty_like(x).bernoulli_(1 - rate, generator=self._generator).div_(1 - rate)


class Adaptable(Protocol):
    """A block that takes deltas."""

    @property
    def places(self) -> Mapping[str, Place]:
        """Part -> where it stands; nothing for a block that takes none."""

    def adapted(self, own: BlockDeltas) -> Self:
        """The same block with deltas; this one stays as it is."""


Block = TypeVar("Block")


def adaptable(blocks: Sequence[Any]) -> bool:
    """Whether all blocks of a tower take deltas."""
    return len(blocks) > 0 and all(getattr(block, "places", None) for block in blocks)


def adapted(blocks: Sequence[Block], deltas: TowerDeltas | None) -> Sequence[Block]:
    """A tower's blocks with their deltas, for one pass.

    Raises:
        InputError: a delta names a block or a part that is not there, or has another shape; names it.
        CapabilityError: the tower's blocks take no deltas.
    """
    if not deltas:
        return blocks
    out: list[Any] = list(blocks)
    for block, parts in deltas.items():
        if not 0 <= block < len(out):
            raise InputError(
                f"deltas name block {block}; the tower has blocks 0 to {len(out) - 1}",
                hint="take blocks of range(backbone.text.layers), of an image tower range(backbone.vision.layers)",
            )
        if not getattr(out[block], "places", None):
            raise CapabilityError(f"block {block} of the tower takes no deltas: it cannot be taken apart")
        for part, delta in parts.items():
            _require(f"part {part!r} of block {block}", out[block].places, part, delta)
        out[block] = out[block].adapted(BlockDeltas(parts, mixed(deltas.seed, block)))
    return out


def _require(told: str, places: Mapping[str, Place], part: str, delta: Delta) -> None:
    if part not in places:
        raise InputError(f"deltas name {told}, which is not there", hint=f"it has {', '.join(places)}")
    place = places[part]
    if _KINDS.get(type(delta)) != place.kind:
        raise InputError(f"the delta of {told} is a {type(delta).__name__}, but it is {_WORDS[place.kind]}")
    for name, wanted in _shapes(delta, place.shape).items():
        tensor = getattr(delta, name)
        if tensor is not None and tuple(tensor.shape) != wanted:
            raise InputError(
                f"{name} of the delta of {told} has shape {tuple(tensor.shape)}; {wanted} is needed",
                hint=f"the part has shape {place.shape}",
            )


def _shapes(delta: Delta, shape: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
    """Field -> the shape that it must have, where the delta's own first dimension is free."""
    if isinstance(delta, LowRank):
        rank = delta.A.shape[0]
        return {"A": (rank, shape[1]), "B": (shape[0], rank)}
    if isinstance(delta, Bottleneck):
        width = delta.down.shape[0]
        return {"down": (width, *shape), "up": (*shape, width), "down_bias": (width,), "up_bias": shape}
    return {"bias": shape[:1]} if isinstance(delta, Bias) else {"weight": shape, "bias": shape}


def _spread(values: Tensor, where: slice, width: int) -> Tensor:
    """In columns `where` of `width`, zeros elsewhere: (*,width)."""
    if values.shape[-1] == width:
        return values
    return F.pad(values, (where.start, width - where.stop))


def _sum(own: Tensor | None, delta: Tensor | None, absent: float) -> Tensor | None:
    """A norm's weight of None is 1, its bias of None 0."""
    return own if delta is None else delta + (absent if own is None else own)


def _activated(x: Tensor, activation: Activation) -> Tensor:
    if activation == "quick_gelu":
        return x * torch.sigmoid(QUICK_GELU * x)
    if activation == "gelu":
        return F.gelu(x)
    return F.relu(x) if activation == "relu" else x

"""Deltas the plain way: a copy of a tower in whose own modules the changed weights stand, with hooks for bottlenecks.

Written from open_clip's and timm's modules alone. Gradients flow to the deltas' tensors.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmprompt.backbones.deltas import Bias, Bottleneck, Delta, LowRank, Norm

LINEAR = ("q", "k", "v", "o", "fc", "proj")


def made(
    kinds: Mapping[str, type], shapes: Mapping[str, tuple[int, ...]], seed: int, *, dropout: float = 0.0
) -> dict[str, Delta]:
    """Random deltas of a block, all of which count.

    Args:
        kinds: part -> kind of delta.
        shapes: part -> (out,in), or (D,).
    """
    g = torch.Generator().manual_seed(seed)

    def leaf(*shape: int) -> Tensor:
        return (0.2 * torch.randn(*shape, generator=g)).requires_grad_()

    def one(kind: type, shape: tuple[int, ...]) -> Delta:
        if kind is LowRank:
            return LowRank(leaf(2, shape[1]), leaf(shape[0], 2), scale=0.7, dropout=dropout)
        if kind is Bias:
            return Bias(leaf(shape[0]))
        if kind is Norm:
            return Norm(leaf(*shape), leaf(*shape))
        return Bottleneck(leaf(4, *shape), leaf(*shape, 4), leaf(4), leaf(*shape), "gelu", scale=0.5)

    return {part: one(kind, shapes[part]) for part, kind in kinds.items()}


def changed(blocks: list[Any], deltas: Mapping[int, Mapping[str, Delta]]) -> None:
    """Put deltas into the modules themselves, which are a copy's."""
    for block, parts in deltas.items():
        for part, delta in parts.items():
            _change(blocks[block], part, delta)


def copied(module: nn.Module) -> Any:
    """A copy to be changed."""
    return copy.deepcopy(module)


def _change(block: Any, part: str, delta: Delta) -> None:
    if isinstance(delta, Bottleneck):
        _beside(block, part, delta)
    elif isinstance(delta, Norm):
        norm = getattr(block, part, None) or getattr(block, part.replace("ln_", "norm"))
        _put(norm, "weight", norm.weight + delta.weight)
        _put(norm, "bias", norm.bias + delta.bias)
    else:
        holder, weight, bias, rows = _linear(block, part)
        own = getattr(*holder(weight))
        rows = slice(0, own.shape[0]) if rows is None else rows
        if isinstance(delta, LowRank):
            more = torch.zeros_like(own).index_add(0, torch.arange(own.shape[0])[rows], delta.B @ delta.A * delta.scale)
            _put(*holder(weight), own + more)
        else:
            own = getattr(*holder(bias))
            rows = slice(None) if own.shape == delta.bias.shape else rows
            _put(*holder(bias), own + torch.zeros_like(own).index_add(0, torch.arange(len(own))[rows], delta.bias))


def _linear(block: Any, part: str) -> tuple[Any, str, str, slice | None]:
    """How a linear map's tensors are found: a dotted name, its bias, and the rows of a third."""
    at = "qkv".find(part) if len(part) == 1 else -1
    timm = hasattr(block, "norm1")

    def holder(name: str) -> tuple[Any, str]:
        *path, last = name.split(".")
        module = block
        for step in path:
            module = getattr(module, step)
        return module, last

    if at < 0:
        names = {"o": "attn.proj", "fc": "mlp.fc1", "proj": "mlp.fc2"} if timm else {}
        name = (names or {"o": "attn.out_proj", "fc": "mlp.c_fc", "proj": "mlp.c_proj"})[part]
        return holder, f"{name}.weight", f"{name}.bias", None
    if not timm:
        width = block.attn.embed_dim
        return holder, "attn.in_proj_weight", "attn.in_proj_bias", slice(at * width, (at + 1) * width)
    if getattr(block.attn, "qkv", None) is None:
        return holder, f"attn.{part}_proj.weight", f"attn.{part}_proj.bias", None
    width = block.attn.qkv.out_features // 3
    rows = slice(at * width, (at + 1) * width)
    bias = "attn.qkv.bias" if block.attn.qkv.bias is not None else f"attn.{part}_bias"
    return holder, "attn.qkv.weight", bias, rows


def _put(module: nn.Module, name: str, value: Tensor) -> None:
    module._parameters.pop(name, None)
    module._buffers.pop(name, None)
    setattr(module, name, value)


def _beside(block: Any, part: str, delta: Bottleneck) -> None:
    """Added to what a branch adds, of what the branch reads."""
    read: list[Tensor] = []
    branch = block.attn if part == "adapter_attn" else block.mlp
    names = ("drop_path1", "drop_path2") if hasattr(block, "norm1") else ("ls_1", "ls_2")
    end = getattr(block, names[part == "adapter_mlp"])
    branch.register_forward_pre_hook(lambda module, args: read.append(args[0]))

    def add(module: nn.Module, args: Any, out: Tensor) -> Tensor:
        hidden = F.gelu(read.pop() @ delta.down.T + delta.down_bias)
        return out + delta.scale * (hidden @ delta.up.T + delta.up_bias)

    end.register_forward_hook(add)

"""Deltas in the blocks of timm's vision transformers.

A block runs as its own code has it. What its linear maps and norms give is changed on the way, in this thread and for
the time of the pass alone: they are recognised by their weights, wherever the block calls them.

Shapes: B images, T tokens, c width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from timm.models.eva import EvaBlockPostNorm
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from vlmprompt.backbones.adapting import BRANCHES, BlockDeltas, Place


def places_of(block: Any) -> Mapping[str, Place]:
    """Where the parts of a block stand.

    Queries, keys and values are thirds of one projection, or three projections of their own (EVA), with their biases
    in it or beside it. A gated MLP whose first map is in two has no `fc`; that of one with both in one map is both.
    """
    attn, mlp = block.attn, block.mlp
    found = dict(_attention(attn))
    for part, linear in (("o", attn.proj), ("fc", getattr(mlp, "fc1", None)), ("proj", getattr(mlp, "fc2", None))):
        if isinstance(linear, nn.Linear):
            found[part] = _of(linear)
    for part, norm in (("ln_1", block.norm1), ("ln_2", block.norm2)):
        if isinstance(norm, nn.LayerNorm):
            found[part] = Place("norm", tuple(norm.normalized_shape), norm.weight, norm.bias)
    return {**found, **{part: Place("branch", (attn.proj.out_features,)) for part in BRANCHES}}


def _attention(attn: Any) -> Iterable[tuple[str, Place]]:
    fused = getattr(attn, "qkv", None)
    if fused is None:
        return [(part, _of(getattr(attn, f"{part}_proj"))) for part in "qkv"]
    width = fused.out_features // 3
    found = []
    for i, part in enumerate("qkv"):
        rows = slice(i * width, (i + 1) * width)
        beside = getattr(attn, f"{part}_bias", None)
        bias, bias_rows = (beside, None) if fused.bias is None else (fused.bias, rows)
        found.append((part, Place("linear", (width, fused.in_features), fused.weight, bias, rows, bias_rows)))
    return found


def _of(linear: nn.Linear) -> Place:
    return Place("linear", tuple(linear.weight.shape), linear.weight, linear.bias)


class Changed(TorchFunctionMode):
    """Within, the linear maps and norms of a block give what they give with its deltas."""

    def __init__(self, own: BlockDeltas, places: Mapping[str, Place]) -> None:
        super().__init__()
        self._own = own
        self._linear: dict[int, dict[str, slice]] = {}
        self._norms: dict[int, str] = {}
        for part, place in places.items():
            if part not in own or place.weight is None:
                continue
            if place.kind == "norm":
                self._norms[id(place.weight)] = part
            else:
                rows = place.rows or slice(0, place.shape[0])
                self._linear.setdefault(id(place.weight), {})[part] = rows

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See `TorchFunctionMode`."""
        named = kwargs or {}
        if func is F.linear:
            x, weight = (*args, *(named[name] for name in ("input", "weight")[len(args) :]))[:2]
            return self._own.add(self._linear.get(id(weight), {}), x, func(*args, **named))
        if func is F.layer_norm:
            return self._norm(*args, **named)
        return func(*args, **named)

    def _norm(
        self,
        input: Tensor,
        normalized_shape: list[int],
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
    ) -> Tensor:
        weight, bias = self._own.norm(self._norms.get(id(weight), ""), weight, bias)
        return F.layer_norm(input, normalized_shape, weight, bias, eps)


def parted(block: Any, x_BTc: Tensor, own: BlockDeltas, **turns: Tensor) -> Tensor:
    """A `Block`, `EvaBlock` or `EvaBlockPostNorm` in eval mode, with what stands beside its two branches.

    Args:
        turns: rotations, for its attention.
    """
    if isinstance(block, EvaBlockPostNorm):  # its branches read what the block reads
        attended = block.norm1(block.attn(x_BTc, **turns))
        x_BTc = x_BTc + attended + own.branch("adapter_attn", x_BTc)
        return x_BTc + block.norm2(block.mlp(x_BTc)) + own.branch("adapter_mlp", x_BTc)
    normed = block.norm1(x_BTc)
    x_BTc = x_BTc + _scaled(block, 1, block.attn(normed, **turns)) + own.branch("adapter_attn", normed)
    normed = block.norm2(x_BTc)
    return x_BTc + _scaled(block, 2, block.mlp(normed)) + own.branch("adapter_mlp", normed)


def _scaled(block: Any, branch: int, out: Tensor) -> Tensor:
    """Behind the layer scale of a branch: a module, or a factor that may be None."""
    if hasattr(block, f"ls{branch}"):
        scaled: Tensor = getattr(block, f"ls{branch}")(out)
        return scaled
    factor = getattr(block, f"gamma_{branch}")
    return out if factor is None else factor * out

"""open_clip's pre-norm residual attention block, taken apart so that an engine can run the pieces it needs.

Shapes: * any leading dimensions, T tokens, D width, H heads, h = D/H.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmprompt.backbones.adapting import BRANCHES, QUICK_GELU, BlockDeltas, Place
from vlmprompt.backbones.openclip.frozen import activation_of, frozen_block, is_linear
from vlmprompt.backbones.text.frozen import FrozenBlock
from vlmprompt.backbones.unrecorded import LinearMap, plain_linear

# What a block is made of; see `unfit`.
BLOCK_PARTS = {"ln_1", "attn", "ls_1", "ln_2", "mlp", "ls_2"}
MLP_PARTS = {"c_fc", "gelu", "c_proj"}
ATTENTION_WEIGHTS = {"in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"}


class ResidualBlock:
    """A block of `ln_1`, `attn`, `ls_1`, `ln_2`, `mlp` and `ls_2`, as an engine runs it: `TextBlock` and `ImageBlock`.

    Args:
        block: the module; whether it is of this kind says `unfit`.
        linear: how its linear maps run.
    """

    def __init__(self, block: Any, linear: LinearMap = plain_linear) -> None:
        self._block = block
        self._linear = linear

    @cached_property
    def places(self) -> Mapping[str, Place]:
        """See `Adaptable.places`."""
        block, attn = self._block, self._block.attn
        width = attn.in_proj_weight.shape[-1]
        found = {
            part: Place("linear", (width, width), attn.in_proj_weight, attn.in_proj_bias, rows, rows)
            for part, rows in _thirds(width).items()
        }
        for part, linear in (("o", attn.out_proj), ("fc", block.mlp.c_fc), ("proj", block.mlp.c_proj)):
            found[part] = Place("linear", tuple(linear.weight.shape), linear.weight, linear.bias)
        for part, norm in (("ln_1", block.ln_1), ("ln_2", block.ln_2)):
            if isinstance(norm, nn.LayerNorm):
                found[part] = Place("norm", (width,), norm.weight, norm.bias)
        return {**found, **{part: Place("branch", (width,)) for part in BRANCHES}}

    def adapted(self, own: BlockDeltas) -> AdaptedBlock:
        """See `Adaptable.adapted`."""
        return AdaptedBlock(self._block, own)

    def frozen(self) -> FrozenBlock | None:
        """See `TextBlock.frozen`."""
        return frozen_block(self._block)

    def norm(self, x: Tensor) -> Tensor:
        """What attention reads: (*,T,D)."""
        return self._block.ln_1(x)

    def qkv(self, normed: Tensor) -> Tensor:
        """Queries, keys and values of normalised tokens: (*,T,D) -> (3,*,H,T,h)."""
        return self._project(normed, slice(0, 3)).movedim(-3, 0).transpose(-2, -3)

    def q(self, normed: Tensor) -> Tensor:
        """Queries only: (*,T,D) -> (*,H,T,h)."""
        return self._project(normed, slice(0, 1)).squeeze(-3).transpose(-2, -3)

    def kv(self, normed: Tensor) -> Tensor:
        """Keys and values only: (*,T,D) -> (2,*,H,T,h)."""
        return self._project(normed, slice(1, 3)).movedim(-3, 0).transpose(-2, -3)

    def finish(self, x: Tensor, heads_out: Tensor) -> Tensor:
        """Both residual branches after attention: x (*,T,D) and attended heads (*,H,T,h) -> (*,T,D)."""
        return self._feed_forward(self._attended(x, self._joined(heads_out)))

    def run(self, x: Tensor, *, causal: bool = False) -> Tensor:
        """The whole block: (*,T,D) -> the same."""
        q, k, v = self.qkv(self.norm(x))
        return self.finish(x, F.scaled_dot_product_attention(q, k, v, is_causal=causal))

    def head(self, x_BTc: Tensor, n: int) -> Tensor:
        """A block of which only the first n tokens are read: (B,n,c). Keys and values of all, the rest of these."""
        normed = self.norm(x_BTc)
        k, v = self.kv(normed)
        q = self.q(normed[:, :n])
        return self.finish(x_BTc[:, :n], F.scaled_dot_product_attention(q, k, v))

    def alone(self, x: Tensor) -> Tensor:
        """The block with an attention matrix that is the identity, each token attending to itself: (*,T,D)."""
        return self._feed_forward(self._attended(x, self.value_path(x)))

    def value_path(self, x: Tensor) -> Tensor:
        """Values through the output projection, without residual and MLP: (*,T,D)."""
        value = self._project(self.norm(x), slice(2, 3)).flatten(-3)
        return self._out(value)

    def attention(self, x: Tensor) -> Tensor:
        """The attention branch without its residual: (*,T,D)."""
        q, k, v = self.qkv(self.norm(x))
        return self._block.ls_1(self._joined(F.scaled_dot_product_attention(q, k, v)))

    def value_attention(self, x: Tensor) -> Tensor:
        """The same with values in place of queries and keys: (*,T,D)."""
        v = self._project(self.norm(x), slice(2, 3)).squeeze(-3).transpose(-2, -3)
        return self._block.ls_1(self._joined(F.scaled_dot_product_attention(v, v, v)))

    def _joined(self, heads_out: Tensor) -> Tensor:
        """Attended heads (*,H,T,h) through the output projection: (*,T,D)."""
        return self._out(heads_out.transpose(-2, -3).flatten(-2))

    def _project(self, normed: Tensor, parts: slice) -> Tensor:
        """Some of queries, keys and values (0, 1, 2): (*,T,D) -> (*,T,parts,H,h)."""
        attn, width = self._block.attn, normed.shape[-1]
        rows = slice(parts.start * width, parts.stop * width)
        bias = attn.in_proj_bias
        projected = self._linear(normed, attn.in_proj_weight[rows], None if bias is None else bias[rows])
        return projected.unflatten(-1, (parts.stop - parts.start, attn.num_heads, -1))

    def _out(self, heads: Tensor) -> Tensor:
        """The output projection: (*,T,D)."""
        out = self._block.attn.out_proj
        return self._linear(heads, out.weight, out.bias) if is_linear(out) else out(heads)

    def _attended(self, x: Tensor, attended: Tensor) -> Tensor:
        """The attention branch with its residual."""
        return x + self._block.ls_1(attended)

    def _feed_forward(self, x: Tensor) -> Tensor:
        """The MLP branch with its residual."""
        return x + self._block.ls_2(_mlp(self._block.mlp, self._block.ln_2(x), self._linear))


class AdaptedBlock(ResidualBlock):
    """The same with deltas.

    Args:
        own: the deltas of this block.
    """

    def __init__(self, block: Any, own: BlockDeltas) -> None:
        super().__init__(block)
        self._own = own

    def frozen(self) -> FrozenBlock | None:
        """None: its deltas learn."""
        return None

    def norm(self, x: Tensor) -> Tensor:
        """See `ResidualBlock.norm`."""
        return self._norm("ln_1", self._block.ln_1, x)

    def _project(self, normed: Tensor, parts: slice) -> Tensor:
        plain = super()._project(normed, parts)
        columns = dict(zip("qkv"[parts], _thirds(normed.shape[-1]).values(), strict=False))
        return self._own.add(columns, normed, plain.flatten(-3)).view(plain.shape)

    def _out(self, heads: Tensor) -> Tensor:
        return self._own.add({"o": slice(None)}, heads, super()._out(heads))

    def _attended(self, x: Tensor, attended: Tensor) -> Tensor:
        plain = super()._attended(x, attended)
        return plain + self._own.branch("adapter_attn", self.norm(x)) if "adapter_attn" in self._own else plain

    def _feed_forward(self, x: Tensor) -> Tensor:
        normed = self._norm("ln_2", self._block.ln_2, x)
        out = x + self._block.ls_2(self._mlp(normed))
        return out + self._own.branch("adapter_mlp", normed) if "adapter_mlp" in self._own else out

    def _mlp(self, x: Tensor) -> Tensor:
        layers = self._block.mlp
        if "fc" not in self._own and "proj" not in self._own:
            return _mlp(layers, x, self._linear)
        hidden = layers.gelu(self._own.add({"fc": slice(None)}, x, layers.c_fc(x)))
        return self._own.add({"proj": slice(None)}, hidden, layers.c_proj(hidden))

    def _norm(self, part: str, norm: Any, x: Tensor) -> Tensor:
        if part not in self._own:
            return norm(x)
        weight, bias = self._own.norm(part, norm.weight, norm.bias)
        return F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps).to(x.dtype)


def _thirds(width: int) -> dict[str, slice]:
    """Rows of queries, keys and values in their fused projection."""
    return {part: slice(i * width, (i + 1) * width) for i, part in enumerate("qkv")}


def residual_blocks(blocks: Iterable[nn.Module]) -> list[ResidualBlock]:
    """All blocks of a transformer; see `unfit_any` for whether they can be run."""
    return [ResidualBlock(block) for block in blocks]


def unfit_any(blocks: Iterable[nn.Module]) -> str | None:
    """Why the first block that cannot be run cannot; None where all can."""
    return next((reason for block in blocks if (reason := unfit(block)) is not None), None)


def _mlp(layers: Any, x: Tensor, linear: LinearMap) -> Tensor:
    """A block's MLP.

    QuickGELU x*sigmoid(1.702x) runs as silu(1.702x)/1.702: one fused kernel and one saved tensor instead of
    three, with both factors applied where the tensor is narrow.
    """
    fc, proj, activation = layers.c_fc, layers.c_proj, activation_of(layers.gelu)
    if activation is None or not (is_linear(fc) and is_linear(proj)):
        return layers(x)
    if activation == "quick_gelu":
        hidden = linear(x * QUICK_GELU, fc.weight, fc.bias * QUICK_GELU, "silu")
        return torch.add(proj.bias, linear(hidden, proj.weight), alpha=1 / QUICK_GELU)
    return linear(linear(x, fc.weight, fc.bias, activation), proj.weight, proj.bias)


def unfit(block: nn.Module) -> str | None:
    """Why this file cannot run a block; None for one that it can.

    A block is judged by its parts, not by its class: open_clip's attention is torch's `nn.MultiheadAttention`
    in version 3 and a module of its own, with the same parts, in version 4. A part that is not known here
    (norms of queries and keys, scales of heads, rotary positions) changes the numbers, so it must be absent or idle.
    """
    if (reason := _unfit_children(block, BLOCK_PARTS, "block")) is not None:
        return reason
    mlp_layers: Any = block.mlp
    if (reason := _unfit_children(mlp_layers, MLP_PARTS, "MLP")) is not None:
        return reason
    if any(getattr(layer, "bias", None) is None for layer in (mlp_layers.c_fc, mlp_layers.c_proj)):
        return "its MLP has no biases"
    return _unfit_attention(block.attn)


def _unfit_attention(attn: Any) -> str | None:
    if (reason := _unfit_children(attn, {"out_proj"}, "attention")) is not None:
        return reason
    weight = getattr(attn, "in_proj_weight", None)
    if weight is None or not hasattr(attn, "in_proj_bias"):
        return "its attention has no fused projection of queries, keys and values"
    if foreign := sorted({name for name, _ in attn.named_parameters()} - ATTENTION_WEIGHTS):
        return f"its attention has a {foreign[0]}"
    # What has no weights of its own.
    if not getattr(attn, "batch_first", True):
        return "its attention wants the batch second"
    if getattr(attn, "add_zero_attn", False):
        return "its attention adds a zero token"
    if getattr(attn, "scale", None) not in (None, (weight.shape[-1] // attn.num_heads) ** -0.5):
        return "its attention has a scale of its own"
    return None


def _unfit_children(module: nn.Module, known: set[str], name: str) -> str | None:
    children = dict(module.named_children())
    if missing := sorted(known - children.keys()):
        return f"its {name} has no {missing[0]}"
    idle = (nn.Identity, nn.Dropout)  # towers never train, so nothing is dropped
    foreign = [part for part, child in children.items() if part not in known and not isinstance(child, idle)]
    return f"its {name} has a {foreign[0]}" if foreign else None

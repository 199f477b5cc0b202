"""open_clip's residual block as a `FrozenBlock`, where it is one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vlmprompt.backbones.text.frozen import Activation, FrozenBlock
from vlmprompt.backbones.text.maps import Affine, LayerNorm

# Classes of which the numbers are known: torch's and open_clip's.
_LINEAR = ("Linear", "NonDynamicallyQuantizableLinear")
_NORMS = ("LayerNorm", "LayerNormFp32")


def frozen_block(block: Any) -> FrozenBlock | None:
    """The same block, of the same tensors; None where a part has a gradient, a hook or a kind that is not known.

    Args:
        block: `ln_1`, `attn`, `ls_1`, `ln_2`, `mlp`, `ls_2` that `blocks.unfit` has nothing against.
    """
    activation = activation_of(block.mlp.gelu)
    ln_1, ln_2 = _norm(block.ln_1), _norm(block.ln_2)
    idle = all(isinstance(scale, nn.Identity) for scale in (block.ls_1, block.ls_2))
    if activation is None or ln_1 is None or ln_2 is None or not idle or block.attn.in_proj_bias is None:
        return None
    if not all(_is_plain(tensor) for tensor in block.parameters()) or any(map(_is_hooked, block.modules())):
        return None
    attn, mlp = block.attn, block.mlp
    if not all(map(is_linear, (attn.out_proj, mlp.c_fc, mlp.c_proj))):
        return None
    return FrozenBlock(
        ln_1,
        Affine(attn.in_proj_weight, attn.in_proj_bias),
        Affine(attn.out_proj.weight, attn.out_proj.bias),
        ln_2,
        Affine(mlp.c_fc.weight, mlp.c_fc.bias),
        Affine(mlp.c_proj.weight, mlp.c_proj.bias),
        attn.num_heads,
        activation,
    )


def is_linear(module: nn.Module) -> bool:
    """Whether a module is its weight and bias and no more: one of another class (a quantised one, one with an adapter)
    or with a hook has to be called."""
    return type(module).__name__ in _LINEAR and not _is_hooked(module)


def activation_of(module: nn.Module) -> Activation | None:
    """That of an MLP; None for one of which the numbers are not known."""
    if type(module).__name__ == "QuickGELU":
        return "quick_gelu"
    if type(module) is not nn.GELU:
        return None
    return "gelu" if module.approximate == "none" else "gelu_tanh"


def _norm(module: nn.Module) -> LayerNorm | None:
    if (
        not isinstance(module, nn.LayerNorm)
        or type(module).__name__ not in _NORMS
        or module.weight is None
        or module.bias is None
    ):
        return None
    return LayerNorm(module.weight, module.bias, module.eps) if len(module.normalized_shape) == 1 else None


def _is_plain(tensor: Tensor) -> bool:
    """Frozen, of a precision in which nothing is cast on the way, and no tensor of another kind (a quantised one)."""
    frozen = not tensor.requires_grad and type(tensor) in (Tensor, nn.Parameter)
    return frozen and tensor.dtype in (torch.float32, torch.float64)


def _is_hooked(module: nn.Module) -> bool:
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(hooks)

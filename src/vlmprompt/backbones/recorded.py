"""Linear maps of frozen towers where gradients are recorded and a processor computes in fp32.

There is no gradient of the weight, so that the backward pass is a linear map as well, and both are oneDNN's: on some
processors its products are faster than those of the library that torch takes for its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlmprompt.backbones.unrecorded import Activation, activated, fits, is_large, plain_linear


def records(x: Tensor) -> bool:
    """Whether a block's input is of the kind that this module is about."""
    return torch.is_grad_enabled() and fits(x)


def recorded_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: Activation | None = None
) -> Tensor:
    """See `LinearMap`. Of few rows, and of a weight or bias that learns, it is the plain one."""
    learns = weight.requires_grad or (bias is not None and bias.requires_grad)
    if learns or not is_large(x):
        return plain_linear(x, weight, bias, activation)
    return activated(_Linear.apply(x, weight, bias), activation)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # By itself, so that there are derivatives of any order.
        (weight,) = ctx.saved_tensors
        return _Linear.apply(grads[0], weight.t(), None), None, None

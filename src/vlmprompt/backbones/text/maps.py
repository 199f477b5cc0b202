"""Frozen maps of rows, forward and backward: only their input gets a gradient.

Shapes: R rows, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd import function

from vlmprompt.errors import CapabilityError


@dataclass(frozen=True)
class Affine:
    """x W^T + b: weight (out,in), bias (out)."""

    weight: Tensor
    bias: Tensor

    @cached_property
    def _turned(self) -> Tensor:
        return self.weight.t()

    def rows(self, start: int, stop: int) -> Affine:
        """Some of the outputs."""
        return Affine(self.weight[start:stop], self.bias[start:stop])

    def __call__(self, x: Tensor, *, scale: float = 1.0, out: Tensor | None = None) -> Tensor:
        """scale * (x W^T + b)."""
        return torch.addmm(self.bias, x, self._turned, beta=scale, alpha=scale, out=out)

    def onto(self, residual: Tensor, x: Tensor, *, scale: float = 1.0) -> Tensor:
        """residual + scale * x W^T + b."""
        return torch.addmm(residual, x, self._turned, alpha=scale).add_(self.bias)

    def back(self, grad: Tensor) -> Tensor:
        """The gradient of x."""
        return grad.mm(self.weight)


@dataclass(frozen=True)
class LayerNorm:
    """A layer norm: weight and bias (D)."""

    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """With the mean and the inverse deviation of each row."""
        return torch.native_layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)

    def back(self, grad: Tensor, x: Tensor, mean: Tensor, inverse: Tensor) -> Tensor:
        """The gradient of x."""
        of_x, _, _ = torch.ops.aten.native_layer_norm_backward(
            grad, x, self.weight.shape, mean, inverse, self.weight, self.bias, (True, False, False)
        )
        return of_x


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """torch's, for the `backward` of a function; but whoever asks for second derivatives is told that there are none.

    torch says so only where a backward pass comes by: `torch.autograd.functional.hvp` would give zeros.
    """
    once = function.once_differentiable(backward)

    @wraps(backward)
    def told(ctx: Any, *grads: Tensor) -> Any:
        if torch.is_grad_enabled():  # of a backward pass: its own graph is wanted
            raise CapabilityError(
                "text features of frozen towers have no second derivatives",
                hint="take gradients without create_graph",
            )
        return once(ctx, *grads)

    return told

"""Grad-CAM of a map of tokens."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def weighted_map(
    map_BTc: Tensor, pooled: Callable[[Tensor], Tensor], target: Callable[[Tensor], Tensor], *, first: int
) -> Tensor:
    """See `VisionEngine.grad_cam`; of the map's T tokens the first are special ones, which have no place."""
    with torch.enable_grad():
        map_BTc = map_BTc.detach().requires_grad_()
        (grad_BTc,) = torch.autograd.grad(target(pooled(map_BTc)).sum(), map_BTc)
    return weighted_channels(map_BTc.detach()[:, first:], grad_BTc[:, first:])


def weighted_channels(map_BNc: Tensor, grad_BNc: Tensor) -> Tensor:
    """ReLU of the channels' sum, each times the mean of its gradient over the positions: (B,N)."""
    return (map_BNc * grad_BNc.mean(dim=1, keepdim=True)).sum(dim=-1).relu()

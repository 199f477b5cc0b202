"""The end of open_clip's wrapper around a tower of timm."""

from __future__ import annotations

from typing import Any

from torch import nn


def bare_linear(layers: list[Any]) -> nn.Linear | None:
    """The one layer, if it is a linear map without bias: what stands before it can be had in the tower's own space."""
    fit = len(layers) == 1 and isinstance(layers[0], nn.Linear) and layers[0].bias is None
    return layers[0] if fit else None


def wrapper_layers(head: nn.Sequential) -> list[nn.Module]:
    """What open_clip has put behind the trunk; towers never train, so nothing is dropped."""
    return [layer for layer in head if not isinstance(layer, nn.Dropout)]

"""How much memory a step keeps for its backward pass."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


class SavedBytes:
    """Counts what autograd keeps for the backward pass: each memory block once, weights not at all."""

    def __init__(self) -> None:
        self._blocks: dict[int, int] = {}
        self._kept: list[Tensor] = []  # alive, so that no address is used twice

    @property
    def total(self) -> int:
        """Bytes."""
        return sum(self._blocks.values())

    def counting(self) -> AbstractContextManager[Any]:
        """Count while the context is open."""
        return saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        base = tensor if tensor._base is None else tensor._base
        if not isinstance(base, nn.Parameter):
            storage = tensor.untyped_storage()
            self._blocks[storage.data_ptr()] = storage.nbytes()
            self._kept.append(tensor)
        return tensor

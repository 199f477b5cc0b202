"""What a method says of its gradients, over the steps of an epoch (see `PromptMethod.observe_gradients`)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from vlmprompt.methods.contract import PromptMethod


def observed(method: PromptMethod, accelerator: Any, optimizer: Optimizer) -> Mapping[str, Tensor]:
    """A step's scalars, of gradients that are no longer scaled for fp16; nothing is done where a method gives none."""
    if type(method).observe_gradients is PromptMethod.observe_gradients:
        return {}
    accelerator.unscale_gradients(optimizer)
    with torch.no_grad():
        return method.observe_gradients()


class EpochMeans:
    """Means over the steps of an epoch so far. A value that is not finite counts for nothing.

    The sums are in no checkpoint: a resumed run adds up again what its log says, in the same order, to the same bits.
    """

    def __init__(self) -> None:
        self._values: dict[str, tuple[float, int]] = {}

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]], epoch: int) -> EpochMeans:
        """Of the steps of an epoch (from 1) that a log holds."""
        means = cls()
        for record in records:
            if record["epoch"] == epoch and not record.get("epoch_end"):
                means.add(record.get("gradients", {}))
        return means

    def add(self, values: Mapping[str, float | None]) -> None:
        """One more step."""
        for name, value in values.items():
            total, count = self._values.get(name, (0.0, 0))
            finite = value is not None and math.isfinite(value)
            self._values[name] = (total + value, count + 1) if value is not None and finite else (total, count)

    def means(self) -> dict[str, float | None]:
        """By name; None where no step had a finite value."""
        return {name: total / count if count else None for name, (total, count) in self._values.items()}

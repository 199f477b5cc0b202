"""Methods that look at their gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from vlmprompt.methods.coop import CoOp


class Observing(CoOp):
    """CoOp that says how large its gradient is, and remembers it."""

    seen: ClassVar[list[Tensor]] = []

    def observe_gradients(self) -> Mapping[str, Tensor]:
        assert self.ctx.grad is not None
        self.seen.append((self.ctx.grad.double() ** 2).sum().sqrt())
        return {"norm": self.seen[-1]}


class Undefined(CoOp):
    """CoOp with values that are no numbers: in its first step, and always."""

    steps = 0

    def observe_gradients(self) -> Mapping[str, Tensor]:
        self.steps += 1
        second = math.inf if self.steps == 1 else 2.0 * (self.steps - 1)
        return {"second": torch.tensor(second), "never": torch.tensor(math.nan)}

"""How much memory a text step may keep from its forward pass for its backward pass.

What does not fit is computed again, which costs a third of a step's arithmetic.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vlmprompt.errors import UsageError

VARIABLE = "VLMPROMPT_TEXT_MEMORY"
ON_CPU = 2e9
# Of what is free on a device when a step begins; the rest is for what the step makes on its way, and for images.
SHARE = 0.5


def kept_bytes(device: torch.device) -> float:
    """Bytes of activations that may be kept.

    Raises:
        UsageError: the variable that says so holds no number of gigabytes.
    """
    asked = asked_bytes()
    if asked is not None:
        return asked
    return SHARE * _free(device) if device.type == "cuda" else ON_CPU


def asked_bytes() -> float | None:
    """What the variable says; None where it is not set.

    Raises:
        UsageError: see `kept_bytes`.
    """
    asked = os.environ.get(VARIABLE)
    return 1e9 * _gigabytes(asked) if asked else None


def _gigabytes(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not found >= 0 or math.isinf(found):
        raise UsageError(
            f"the variable {VARIABLE} is {text!r}, which is no number of gigabytes",
            hint=f"such as {VARIABLE}=4; 0 keeps no activations, so that as little memory as possible is needed",
        )
    return found


def _free(device: torch.device) -> int:
    """Bytes that nobody holds, with those that torch holds for later."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def counting(run: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """What a function gives, and the bytes that its graph keeps, parameters not counted."""
    seen: dict[int, int] = {}

    def keep(tensor: Any) -> Any:
        base = tensor if tensor._base is None else tensor._base
        if not isinstance(base, nn.Parameter):
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = run()
    return result, sum(seen.values())

"""The arithmetic that towers run in; weights are kept in fp32 and cast on the way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Literal

import torch

Precision = Literal["fp32", "bf16", "fp16"]
Autocast = Callable[[], AbstractContextManager[Any]]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: Precision) -> Autocast:
    """The context that a tower runs in."""
    return nullcontext if precision == "fp32" else partial(torch.autocast, device.type, dtype=_DTYPES[precision])

"""Blocks of a frozen tower where no gradient is recorded and a processor computes in fp32.

Three things cost there that need not. A batch of many images makes tensors that no cache holds, so large that the C
library has the system clear fresh pages for each: the same images in slices are the same products in memory that is
there. torch's own linear map writes the bias into the output before the product, and an activation reads and writes it
once more: oneDNN's does both while the product is in registers. And a library for products copies a weight into its
own order at every call: oneDNN takes one that was copied once for all slices.

`VLMPROMPT_IMAGE_TOWER=plain`, or `plainly` here, has everything run plainly; values agree to some 1e-6. The same holds
for what `recorded` does where gradients are recorded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmprompt.errors import UsageError

Activation = Literal["gelu", "gelu_tanh", "silu"]
VARIABLE = "VLMPROMPT_IMAGE_TOWER"
# Bytes of the widest tensor of a slice: well below 32 MiB, from which glibc keeps nothing that is freed, and within the
# last cache of a large processor. A half of it and twice as much were slower where it was measured.
SLICE_BYTES = 20 * 2**20
# Numbers in a block's input below which a product takes less than what oneDNN needs to find its code.
LEAST = 2**17

# oneDNN's name, numbers and variant of an activation.
_FUSED: Mapping[Activation | None, tuple[str, list[float], str]] = {
    None: ("none", [], ""),
    "gelu": ("gelu", [], "none"),
    "gelu_tanh": ("gelu", [], "tanh"),
    "silu": ("swish", [], ""),
}
_PLAIN: Mapping[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
}
_plainly = ContextVar("plainly", default=False)


class LinearMap(Protocol):
    """An activation of a linear map."""

    def __call__(
        self, x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: Activation | None = None
    ) -> Tensor:
        """(*,in) -> (*,out), the weight (out,in)."""


def plain_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: Activation | None = None) -> Tensor:
    """The `LinearMap` of every device, dtype and gradient."""
    return activated(F.linear(x, weight, bias), activation)


def activated(y: Tensor, activation: Activation | None) -> Tensor:
    """What an activation makes of a linear map."""
    return y if activation is None else _PLAIN[activation](y)


class PackedLinear:
    """The `LinearMap` of oneDNN, of weights that do not change while it lives.

    Args:
        often: each weight is used several times, and copied into oneDNN's order at first.
    """

    def __init__(self, often: bool) -> None:
        self._often = often
        # With the weight itself, so that no other gets its address while this lives: a parametrised one is computed
        # anew each time it is asked for.
        self._packed: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def __call__(
        self, x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: Activation | None = None
    ) -> Tensor:
        """See `LinearMap`. What torch.compile makes of a frozen linear map; torch has no public name for it."""
        found: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._of(weight, x), bias, *_FUSED[activation])
        return found

    def _of(self, weight: Tensor, x: Tensor) -> Tensor:
        if not self._often:
            return weight
        key = weight.data_ptr(), len(weight)  # rows of one tensor are weights of their own
        if key not in self._packed:
            self._packed[key] = weight, torch.ops.mkldnn._reorder_linear_weight(weight, x.shape[:-1].numel())
        return self._packed[key][1]


def in_slices(x: Tensor, row_bytes: int, run: Callable[[LinearMap, Tensor], Tensor]) -> Tensor:
    """What a block makes of a batch, slice by slice where that is faster.

    Args:
        x: (B,T,c).
        row_bytes: what one of the B takes in the widest tensor that is made of it.
        run: the block with linear maps of a kind, of any part of the batch.
    """
    if not gains(x):
        return run(plain_linear, x)
    slices = x.tensor_split(-(-len(x) // max(1, SLICE_BYTES // row_bytes)))
    linear = PackedLinear(often=len(slices) > 1)
    found = [run(linear, part) for part in slices]
    return found[0] if len(found) == 1 else torch.cat(found)


def gains(x: Tensor) -> bool:
    """Whether a block's input is of the kind that this module is about."""
    return not torch.is_grad_enabled() and fits(x)


def fits(x: Tensor) -> bool:
    """Whether a block's input is one for a processor's fast ways; one of a traced graph (an export) is not."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        and not torch.is_autocast_enabled("cpu")
        and is_large(x)
        and is_fast()
    )


def is_large(x: Tensor) -> bool:
    """Whether oneDNN's product takes no longer than torch's own."""
    return x.numel() >= LEAST


def is_fast() -> bool:
    """Whether frozen blocks run in this module's way where they can.

    Raises:
        UsageError: the variable that says so holds another word.
    """
    asked = os.environ.get(VARIABLE) or "auto"
    if asked not in ("auto", "plain"):
        raise UsageError(
            f"the variable {VARIABLE} is {asked!r}, which is neither auto nor plain",
            hint="leave it out; plain has image towers run by torch's own linear maps",
        )
    return asked == "auto" and not _plainly.get() and _has_onednn()


@contextmanager
def plainly() -> Iterator[None]:
    """Within, all blocks run by torch's own linear maps and attention."""
    token = _plainly.set(True)
    try:
        yield
    finally:
        _plainly.reset(token)


@cache
def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")

"""Where local prompts look: the patches that they choose, and whether these lie on the object.

Shapes: B images, N patches, H x W pixels of a mask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from vlmprompt.data.records import Record
from vlmprompt.errors import CapabilityError


class Masked(Protocol):
    """An image that knows where its object is."""

    def mask(self) -> Any:
        """(H,W), true on the object."""


def masks(records: Sequence[Record], n_patches: int) -> Tensor:
    """Whether the centre of each patch lies on the object: (B,N), of the square that the transform keeps.

    Raises:
        CapabilityError: the images have no masks, or the patches are not on a square grid.
    """
    side = math.isqrt(n_patches)
    if side * side != n_patches:
        raise CapabilityError(f"{n_patches} patches are not on a square grid")
    if not all(hasattr(record.image, "mask") for record in records):
        raise CapabilityError("the images have no masks of their objects")
    return torch.stack([_centres(torch.as_tensor(cast(Masked, r.image).mask()), side) for r in records])


def _centres(mask_HW: Tensor, side: int) -> Tensor:
    """The mask at the centres of a grid over its middle square: (N,)."""
    height, width = mask_HW.shape
    edge = min(height, width)
    steps = ((torch.arange(side) + 0.5) * edge / side).long()
    rows, columns = steps + (height - edge) // 2, steps + (width - edge) // 2
    return mask_HW[rows][:, columns].flatten()

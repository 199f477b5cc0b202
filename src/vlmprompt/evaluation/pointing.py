"""Where local prompts look: the patches that they choose, and whether these lie on the object.

Shapes: B images, N patches, n local prompts, k patches of a prompt, H x W pixels of a mask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from vlmprompt.data.records import Record
from vlmprompt.errors import CapabilityError
from vlmprompt.methods.contract import MethodOutput


class Masked(Protocol):
    """An image that knows where its object is."""

    def mask(self) -> Any:
        """(H,W), true on the object."""


def chosen_patches(output: MethodOutput, labels_B: Tensor) -> list[Tensor]:
    """The patches that each local prompt averages for an image's own class: (B,k_j) indices, for each prompt.

    Raises:
        CapabilityError: the method has no local prompts that choose (`local_text_nKd`, `local_scales_n` in `aux`).
    """
    if output.local is None or "local_text_nKd" not in output.aux:
        raise CapabilityError("this method has no local prompts that choose patches")
    own_nBd = output.aux["local_text_nKd"][:, labels_B.to(output.logits.device)]
    sim_nBN = torch.einsum("bnd,jbd->jbn", output.local.features_BNd, own_nBd)
    scales = output.aux["local_scales_n"].tolist()
    return [sim_BN.topk(k, dim=1).indices.cpu() for sim_BN, k in zip(sim_nBN, scales, strict=True)]


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

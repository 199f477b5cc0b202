"""What transport plans depend on, in parts that are worked on at once.

Shapes: see `transport`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vlmprompt.methods.transport_rules import Rules

# Entries of the plans that are worked on at once: few enough for a core's cache, many enough for an accelerator.
PART_ENTRIES = {"cpu": 2**18}
PART_ENTRIES_ACCELERATOR = 2**24


@dataclass(frozen=True)
class Problems:
    """What the plans of some (image, class) pairs depend on.

    Attributes:
        fixed_PMN: the part of the cost that does not depend on the plan.
        edges_PMM: 2 alpha C_w.
        C_z_BNN: of all images.
        images_P: the image of each problem, ascending.
        p_PN: weights of the positions.
        counts: problems of each image.
    """

    fixed_PMN: Tensor
    edges_PMM: Tensor
    C_z_BNN: Tensor
    images_P: Tensor
    p_PN: Tensor
    counts: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.images_P)

    def product(self) -> Tensor:
        """p q^T: (P,M,N)."""
        return (self.p_PN / self.fixed_PMN.shape[1])[:, None].expand_as(self.fixed_PMN)

    def cost(self, T_PMN: Tensor) -> Tensor:
        """alpha (C_zw - 2 C_w T C_z) + (1 - alpha) C_WD: (P,M,N)."""
        if len(set(self.counts)) == 1:  # nobody has left
            TC_PMN = (T_PMN.unflatten(0, (len(self.counts), -1)).flatten(1, 2) @ self.C_z_BNN).view_as(T_PMN)
        else:  # one product for all problems of an image: C_z is never repeated for its classes
            parts = zip(T_PMN.split(self.counts), self.C_z_BNN, strict=True)
            TC_PMN = torch.cat([(T.flatten(0, 1) @ C_z_NN).view_as(T) for T, C_z_NN in parts])
        return torch.baddbmm(self.fixed_PMN, self.edges_PMM, TC_PMN, alpha=-1)

    def where(self, kept_P: Tensor) -> Problems:
        """Some of them."""
        own = (x[kept_P] for x in (self.fixed_PMN, self.edges_PMM, self.images_P, self.p_PN))
        fixed_PMN, edges_PMM, images_P, p_PN = own
        counts = torch.bincount(images_P, minlength=len(self.C_z_BNN)).tolist()
        return Problems(fixed_PMN, edges_PMM, self.C_z_BNN, images_P, p_PN, tuple(counts))


def parts_of(Z_BNd: Tensor, W_KMd: Tensor, p_BN: Tensor, rules: Rules) -> Iterator[Problems]:
    """The problems of all images and as many classes as are worked on at once."""
    entries = PART_ENTRIES.get(Z_BNd.device.type, PART_ENTRIES_ACCELERATOR)
    size = max(1, entries // max(1, p_BN.numel() * W_KMd.shape[-2]))
    C_z_BNN = Z_BNd @ Z_BNd.mT
    spread_BN = (C_z_BNN.square() @ p_BN[..., None])[..., 0]
    # PLOT's rule looks at the whole batch at once.
    for W_kMd in W_KMd.split(W_KMd.shape[-3] if rules.stop == "plot" else size, dim=-3):
        classes = W_kMd.shape[-3]
        cosines_BkMN = (W_kMd.flatten(-3, -2) @ Z_BNd.mT).unflatten(1, W_kMd.shape[-3:-1])
        C_w_kMM = W_kMd @ W_kMd.mT
        C_zw_BkMN = spread_BN[:, None, None] + C_w_kMM.square().mean(dim=-1, keepdim=True)
        fixed_BkMN = rules.alpha * C_zw_BkMN + (1 - rules.alpha) * (1 - cosines_BkMN)
        edges_BkMM = (2 * rules.alpha * C_w_kMM).expand(len(p_BN), -1, -1, -1)
        images_P = torch.arange(len(p_BN), device=p_BN.device).repeat_interleave(classes)
        p_PN = p_BN.repeat_interleave(classes, dim=0)
        counts = (classes,) * len(p_BN)
        yield Problems(fixed_BkMN.flatten(0, 1), edges_BkMM.flatten(0, 1), C_z_BNN, images_P, p_PN, counts)

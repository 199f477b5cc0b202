"""What a method says of a batch: logits, local features beside classes, its loss.

Shapes: B images, K classes, N local positions, d joint width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vlmprompt.backbones.shaped import Shaped
from vlmprompt.backbones.types import exact

# Local cosines (images x positions x classes) that a streamed score holds at a time.
STREAM_VALUES = 2**22


@dataclass(frozen=True, repr=False)
class LocalView(Shaped):
    """Local image features against class features.

    Attributes:
        features_BNd: local features in joint space, L2-normalised.
        classes: (K,d) or (B,K,d); not necessarily of unit length (a mean over prompts is not renormalised).
    """

    features_BNd: Tensor
    classes: Tensor

    def cosines(self) -> Tensor:
        """All of (B,N,K)."""
        return self.features_BNd @ self.classes.transpose(-1, -2)

    def lmcm(self, temperature: float = 1.0, chunk: int | None = None) -> Tensor:
        """L-MCM of each image: the largest softmax(cosines/T) of any position and class (GL-MCM, Miyai et al.).

        Streamed: cosines of one chunk of classes exist at a time. Of a position with cosines c it is
        1 / sum_k exp((c_k - max c) / T), whose sum and maximum grow from chunk to chunk.

        Args:
            temperature: T, on raw cosines.
            chunk: classes at a time; None: as many as fit a fixed size.

        Returns:
            (B,), in the precision of the features.
        """
        n_images, n_positions, _ = self.features_BNd.shape
        part = chunk or max(1, STREAM_VALUES // max(1, n_images * n_positions))
        peak_BN = exact(self.features_BNd.new_full((n_images, n_positions), float("-inf")))
        total_BN = torch.zeros_like(peak_BN)
        for classes in self.classes.split(part, dim=-2):
            c_BNC = exact(LocalView(self.features_BNd, classes).cosines()) / temperature
            new_BN = torch.maximum(peak_BN, c_BNC.amax(dim=-1))
            own_BN = (c_BNC - new_BN[..., None]).exp().sum(dim=-1)
            total_BN, peak_BN = total_BN * (peak_BN - new_BN).exp() + own_BN, new_BN
        return total_BN.reciprocal().amax(dim=1).to(self.features_BNd.dtype)


@dataclass(frozen=True, repr=False)
class MethodOutput(Shaped):
    """What a method says of a batch.

    Attributes:
        logits: (B,K), already scaled.
        scale: the logit scale s that they were multiplied by.
        global_cosines: (B,K) raw cosines of the global branch, or None where the method has none.
        local: local features against classes, or None.
        aux: the method's own tensors (per-prompt cosines, plans, what its loss needs).
        cosine_logits: logits / scale are similarities like cosines, which scores may take where there are no
            global cosines; off for a regression.
    """

    logits: Tensor
    scale: float
    global_cosines: Tensor | None = None
    local: LocalView | None = None
    aux: Mapping[str, Tensor] = field(default_factory=dict)
    cosine_logits: bool = True

    @property
    def local_cosines(self) -> Tensor | None:
        """(B,N,K), materialised on request; None for a method without local features."""
        return None if self.local is None else self.local.cosines()


@dataclass(frozen=True, repr=False)
class Losses(Shaped):
    """The loss to minimise, and what of it is logged; all are scalars.

    Attributes:
        parts: its parts by name, for every step's line of the log.
        compared: losses, with their graphs, whose gradients are compared once an epoch: what competes in the total,
            as a method weighs it. The log of an epoch's first step then has the norm of each one's gradient in
            everything that is trained, `llm.norm`, and for all but the first its ratio to the first's, `llm.ratio`.
            Training is the same with them and without; each costs a backward pass an epoch.
    """

    total: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    compared: Mapping[str, Tensor] = field(default_factory=dict)

"""LoCoOp: CoOp that keeps the classes out of what is not theirs in the picture.

Shapes: B images, K classes, N local positions, S selected positions of the batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from vlmprompt.api import CoOp, ImageNeeds, Losses, MethodOutput, cross_entropy
from vlmprompt_baselines.config import LoCoOpConfig

SHARE = 5
LOG_EPS = 1e-5


class LoCoOp(CoOp):
    """LoCoOp: Few-Shot Out-of-Distribution Detection via Prompt Learning (Miyai et al., NeurIPS 2023).

    Text and logits are CoOp's. With p_n the softmax over classes of s * cos(z_n, w_k) at local position n, the
    positions whose true class is not among the top k of p_n are background, and the loss is
    CE - loc_weight * mean over them, in the whole batch, of the entropy -sum_k p_nk log(p_nk + 1e-5); no
    background, no term. Local features are the last block's without attention, `value_block`. Learned is `ctx`.

    Same as the official code, whose top k of 200 is for ImageNet: where there are not more classes than that,
    it would have no effect, so the default is the same share of any number of classes.
    """

    capabilities = frozenset({"new_classes", "feature_cache", "local", "class_shard"})
    requires = frozenset({"local_features"})
    config: LoCoOpConfig

    def create(self) -> None:
        """CoOp's context."""
        super().create()
        n_classes = len(self.class_names)
        self.top_k = self.config.top_k or max(n_classes // SHARE, 1)
        if self.top_k >= n_classes:
            warnings.warn(
                f"locoop is CoOp here: top_k = {self.top_k} of {n_classes} classes leaves no background", stacklevel=2
            )

    def image_needs(self) -> ImageNeeds:
        """Local features in joint space."""
        return ImageNeeds(local="value_block")

    def loss(
        self,
        output: MethodOutput,
        labels: Tensor,
        *,
        draws: Mapping[str, Tensor] | None = None,
        weights: Tensor | None = None,
    ) -> Losses:
        """Cross-entropy and the entropy of the background; parts `ce`, `entropy` and `background` (its share).

        Weights of images act on the cross-entropy.
        """
        ce = cross_entropy(output.logits, labels, weights)
        cosines_BNK = output.local_cosines
        assert cosines_BNK is not None
        likely_BNK = (output.scale * cosines_BNK).softmax(dim=-1)
        background_BN = self._is_background(likely_BNK, labels)
        entropy = mean_entropy(likely_BNK[background_BN])
        total = ce - self.config.loc_weight * entropy
        share = background_BN.float().mean()
        return Losses(total, {"ce": ce.detach(), "entropy": entropy.detach(), "background": share})

    def _is_background(self, likely_BNK: Tensor, labels_B: Tensor) -> Tensor:
        """Where the true class is not among the most likely ones (B,N)."""
        top_BNk = likely_BNK.topk(min(self.top_k, likely_BNK.shape[-1]), dim=-1).indices
        return (top_BNk != labels_B[:, None, None]).all(dim=-1)


def mean_entropy(likely_SK: Tensor) -> Tensor:
    """Mean entropy of distributions, 0 of none."""
    if not len(likely_SK):
        return likely_SK.sum()
    entropy_S: Tensor = -(likely_SK * torch.log(likely_SK + LOG_EPS)).sum(dim=-1)
    return entropy_S.mean()

"""Cross-entropy whose images may have weights.

Shapes: B images, K classes.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits_BK: Tensor, labels_B: Tensor, weights_B: Tensor | None = None) -> Tensor:
    """Mean over the batch of each image's cross-entropy times its weight: a scalar.

    The mean is over B and not over the sum of the weights (torch's `weight=`), under which a batch of one image, or
    of one class, would not feel them. With weights of mean 1 over the training images its expectation is the
    weighted mean over all of them, whatever B is.

    Args:
        weights_B: None: 1 each.
    """
    if weights_B is None:
        return F.cross_entropy(logits_BK, labels_B)
    return (weights_B * F.cross_entropy(logits_BK, labels_B, reduction="none")).mean()

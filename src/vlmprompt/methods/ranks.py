"""What counts as right: one rule for every metric, in training and in evaluation."""

from __future__ import annotations

from torch import Tensor


def label_ranks(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """(B,) how many classes have a strictly higher logit than the label; 0 = right, below k = right in the top k.

    Equal logits are no reason to count an image as wrong, and counting does not depend on the order of classes.
    `argmax` and `topk` would: among equals each takes another one, so that top-5 can come out below top-1.
    """
    own_B1 = logits_BK.gather(1, labels_B[:, None])
    return (logits_BK > own_B1).sum(dim=1)

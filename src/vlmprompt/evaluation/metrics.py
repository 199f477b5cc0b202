"""Metrics of classification, as plain functions on logits and labels. All are fractions in [0, 1].

Shapes: B images, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vlmprompt.errors import InputError
from vlmprompt.methods.ranks import label_ranks
from vlmprompt.results.harmonic import h, h_of_means, mean_of_h

__all__ = ["ece", "h", "h_of_means", "mean_of_h", "mean_per_class", "top1", "top_k"]

ECE_BINS = 15


def top1(logits_BK: Tensor, labels_B: Tensor) -> float:
    """The share of images of which no class has a higher logit than the label (see `label_ranks` on equal ones)."""
    return top_k(logits_BK, labels_B, 1)


def top_k(logits_BK: Tensor, labels_B: Tensor, k: int) -> float:
    """The share of images of which fewer than k classes have a higher logit than the label."""
    _check(logits_BK, labels_B)
    return _share(label_ranks(logits_BK, labels_B) < k)


def mean_per_class(logits_BK: Tensor, labels_B: Tensor) -> float:
    """Top-1 accuracy of each class, averaged over the classes that have images (the mean of recalls)."""
    _check(logits_BK, labels_B)
    n_classes = logits_BK.shape[1]
    images_K = torch.bincount(labels_B, minlength=n_classes)
    right_K = torch.bincount(labels_B[label_ranks(logits_BK, labels_B) == 0], minlength=n_classes)
    present = images_K > 0
    return float((right_K[present].double() / images_K[present]).mean())


def ece(logits_BK: Tensor, labels_B: Tensor, *, bins: int = ECE_BINS) -> float:
    """Expected calibration error of the predicted class (Guo et al., ICML 2017).

    Confidence is the largest softmax probability. It falls into `bins` intervals of equal width, closed
    above: (0, 1/bins], (1/bins, 2/bins] ... The error is the mean over images of |accuracy - mean confidence|
    of an image's interval.
    """
    _check(logits_BK, labels_B)
    confidence_B = logits_BK.double().softmax(dim=1).amax(dim=1)
    right_B = (label_ranks(logits_BK, labels_B) == 0).double()
    bin_B = (confidence_B * bins).ceil().long().clamp(1, bins) - 1
    gaps = torch.zeros(bins, dtype=torch.double, device=logits_BK.device)
    gaps.index_add_(0, bin_B, right_B - confidence_B)
    return float(gaps.abs().sum() / len(labels_B))


def _share(right_B: Tensor) -> float:
    return int(right_B.sum()) / len(right_B)


def _check(logits_BK: Tensor, labels_B: Tensor) -> None:
    if len(labels_B) == 0:
        raise InputError("there are no images to measure on")
    if not torch.isfinite(logits_BK).all():
        raise InputError("some logits are not finite, so accuracy would mean nothing")

"""Metrics of classification, as plain functions on logits and labels. All are fractions in [0, 1].

Shapes: B images, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vlmprompt.errors import InputError
from vlmprompt.results.harmonic import h, h_of_means, mean_of_h

__all__ = ["ece", "h", "h_of_means", "mean_of_h", "mean_per_class", "top1", "top_k"]

ECE_BINS = 15


def top1(logits_BK: Tensor, labels_B: Tensor) -> float:
    """The share of images whose highest logit is that of their label; of equal logits the first class wins."""
    _check(logits_BK, labels_B)
    return _share(logits_BK.argmax(dim=1) == labels_B)


def top_k(logits_BK: Tensor, labels_B: Tensor, k: int) -> float:
    """The share of images whose label is among the k highest logits."""
    _check(logits_BK, labels_B)
    return _share((logits_BK.topk(k, dim=1).indices == labels_B[:, None]).any(dim=1))


def mean_per_class(logits_BK: Tensor, labels_B: Tensor) -> float:
    """Top-1 accuracy of each class, averaged over the classes that have images (the mean of recalls)."""
    _check(logits_BK, labels_B)
    n_classes = logits_BK.shape[1]
    images_K = torch.bincount(labels_B, minlength=n_classes)
    right_K = torch.bincount(labels_B[logits_BK.argmax(dim=1) == labels_B], minlength=n_classes)
    present = images_K > 0
    return float((right_K[present].double() / images_K[present]).mean())


def ece(logits_BK: Tensor, labels_B: Tensor, *, bins: int = ECE_BINS) -> float:
    """Expected calibration error of the predicted class (Guo et al., ICML 2017).

    Confidence is the largest softmax probability. It falls into `bins` intervals of equal width, closed
    above: (0, 1/bins], (1/bins, 2/bins] ... The error is the mean over images of |accuracy - mean confidence|
    of an image's interval.
    """
    _check(logits_BK, labels_B)
    confidence_B, predicted_B = logits_BK.double().softmax(dim=1).max(dim=1)
    right_B = (predicted_B == labels_B).double()
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

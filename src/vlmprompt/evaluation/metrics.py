"""Metrics of classification, as plain functions on logits and labels. All are fractions in [0, 1].

Shapes: B images, K classes.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from vlmprompt.errors import InputError
from vlmprompt.methods.ranks import label_ranks
from vlmprompt.results.calibration import BINS, gaps
from vlmprompt.results.harmonic import h, h_of_means, mean_of_h

__all__ = ["ece", "h", "h_of_means", "mean_of_h", "mean_per_class", "top1", "top_k"]


def top1(logits_BK: Tensor, labels_B: Tensor) -> float:
    """The share of images of which no class has a higher logit than the label (see `label_ranks` on equal ones)."""
    return top_k(logits_BK, labels_B, 1)


def top_k(logits_BK: Tensor, labels_B: Tensor, k: int) -> float:
    """The share of images of which fewer than k classes have a higher logit than the label."""
    require_measurable(logits_BK, labels_B)
    return _share(label_ranks(logits_BK, labels_B) < k)


def mean_per_class(logits_BK: Tensor, labels_B: Tensor) -> float:
    """Top-1 accuracy of each class, averaged over the classes that have images (the mean of recalls)."""
    require_measurable(logits_BK, labels_B)
    n_classes = logits_BK.shape[1]
    images_K = torch.bincount(labels_B, minlength=n_classes)
    right_K = torch.bincount(labels_B[label_ranks(logits_BK, labels_B) == 0], minlength=n_classes)
    present = images_K > 0
    return float((right_K[present].double() / images_K[present]).mean())


def ece(logits_BK: Tensor, labels_B: Tensor, *, bins: int = BINS) -> float:
    """Expected calibration error of the predicted class (Guo et al., ICML 2017).

    Confidence is the largest softmax probability. It falls into `bins` intervals of equal width, closed
    above: (0, 1/bins], (1/bins, 2/bins] ... The error is the mean over images of |accuracy - mean confidence|
    of an image's interval.
    """
    require_measurable(logits_BK, labels_B)
    confidence_B = logits_BK.double().softmax(dim=1).amax(dim=1)
    right_B = label_ranks(logits_BK, labels_B) == 0
    return ece_of(confidence_B.cpu().numpy(), right_B.cpu().numpy(), bins=bins)


def ece_of(confidence_B: ArrayLike, right_B: ArrayLike, *, bins: int = BINS) -> float:
    """`ece` of images whose confidence is known, as `results.calibration.ece`; the bins are added up by torch, whose
    order differs in the last digit, so that numbers are those of earlier versions.
    """
    gaps_bins = torch.from_numpy(gaps(confidence_B, right_B, bins))
    return float(gaps_bins.abs().sum() / len(np.asarray(right_B)))


def _share(right_B: Tensor) -> float:
    return int(right_B.sum()) / len(right_B)


def require_measurable(logits_BK: Tensor, labels_B: Tensor) -> None:
    """Refuse what no metric says anything of.

    Raises:
        InputError: there are no images, or a logit is not finite.
    """
    if len(labels_B) == 0:
        raise InputError("there are no images to measure on")
    if not torch.isfinite(logits_BK).all():
        raise InputError("some logits are not finite, so accuracy would mean nothing")

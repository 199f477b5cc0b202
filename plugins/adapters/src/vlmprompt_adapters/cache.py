"""The cache model of Tip-Adapter, and the search for its two numbers.

Shapes: B images, K classes, N cached images, V views, d joint width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vlmprompt.api import at_least_float, unit

# Affinities (cached images x validation images) that a search holds at a time.
SEARCH_VALUES = 2**24


def averaged_keys(features_rd: Tensor, views: int) -> Tensor:
    """Keys (N,d) of rows that stand view after view: the mean of the raw features, then normalised."""
    return unit(at_least_float(features_rd).unflatten(0, (views, -1)).mean(dim=0))


def affinities(image_Bd: Tensor, keys_Nd: Tensor) -> Tensor:
    """Cosines of keys and images (N,B); images run over columns, so that a class is summed up by whole rows."""
    return keys_Nd @ image_Bd.T


def cache_logits(affinity_NB: Tensor, labels_N: Tensor, beta: float, n_classes: int) -> Tensor:
    """sum of exp(-beta (1 - affinity)) over the keys of each class: (B,K)."""
    closeness_NB = (affinity_NB - 1).mul_(beta).exp_()
    return closeness_NB.new_zeros(n_classes, closeness_NB.shape[1]).index_add(0, labels_N, closeness_NB).T


def grid(most: float, steps: int) -> list[float]:
    """What the official code tries of a number: `steps` values from 0.1 on, evenly spaced; `most` itself is not."""
    return [i * (most - 0.1) / steps + 0.1 for i in range(steps)]


@dataclass(frozen=True)
class Found:
    """The best pair of a grid.

    Attributes:
        val_accuracy: with it, on the images of the search.
        tried: pairs.
    """

    alpha: float
    beta: float
    val_accuracy: float
    tried: int


def search(
    image_Bd: Tensor,
    own_BK: Tensor,
    labels_B: Tensor,
    keys_Nd: Tensor,
    labels_N: Tensor,
    *,
    betas: list[float],
    alphas: list[float],
) -> Found:
    """The beta and alpha under which most images are right; of equal pairs the first, alpha running fastest.

    Args:
        own_BK: logits that the cache is added to.
    """
    right = torch.zeros(len(betas), len(alphas), dtype=torch.int64)
    for part in torch.arange(len(image_Bd)).split(max(1, SEARCH_VALUES // max(1, len(keys_Nd)))):
        rows = slice(int(part[0]), int(part[-1]) + 1)
        affinity_NB = affinities(image_Bd[rows], keys_Nd)
        for i, beta in enumerate(betas):
            cache_BK = cache_logits(affinity_NB, labels_N, beta, own_BK.shape[1])
            counts = [((own_BK[rows] + alpha * cache_BK).argmax(dim=1) == labels_B[rows]).sum() for alpha in alphas]
            right[i] += torch.stack(counts).cpu()
    counted = right.flatten().tolist()
    best = counted.index(max(counted))
    i, j = divmod(best, len(alphas))
    return Found(alphas[j], betas[i], counted[best] / len(labels_B), len(counted))

"""Which views of an image a model is surest of, and what they say together.

Shapes: A views, K classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def entropy(logits: Tensor) -> Tensor:
    """Of the softmax over the last dimension, in nats."""
    return -(logits.softmax(dim=-1) * logits.log_softmax(dim=-1)).sum(dim=-1)


def surest(logits_AK: Tensor, share: float) -> Tensor:
    """Places of the views with the lowest entropy, the surest first: as many as a share of all, at least one."""
    count = max(1, int(len(logits_AK) * share))
    return entropy(logits_AK).argsort(stable=True)[:count]


def entropy_of_mean(logits_AK: Tensor) -> Tensor:
    """Entropy of the mean of the views' softmax, in nats: a scalar."""
    log_mean_K = logits_AK.log_softmax(dim=-1).logsumexp(dim=0) - math.log(len(logits_AK))
    finite_K = log_mean_K.clamp_min(torch.finfo(log_mean_K.dtype).min)
    return -(finite_K.exp() * finite_K).sum()

"""Distillation of class descriptions into prompts: the variants of DUAL-PT's L_LLM.

Shapes: K classes (those with descriptions only), M prompts, E most descriptions of a class, d joint width,
B images. All features have unit length; `...` is empty, or B where prompts depend on the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from vlmprompt.api import transport_plan
from vlmprompt_dual_pt.config import Distill

WD_LAMBDA = 0.1


@dataclass(frozen=True)
class Targets:
    """Encoded descriptions, frozen.

    Attributes:
        labels_K: the classes that have some.
        h_KEd: their features, filled up with zeros.
        weights_KE: 1/e for each of a class's e descriptions, 0 for what fills up.
    """

    labels_K: Tensor
    h_KEd: Tensor
    weights_KE: Tensor

    @classmethod
    def of(cls, features: Sequence[Tensor]) -> Targets:
        """From each class's (e,d) unit features; those of a class without descriptions are (0,d)."""
        labels = [label for label, h_ed in enumerate(features) if len(h_ed)]
        described = [features[label] for label in labels]
        h_KEd = torch.nn.utils.rnn.pad_sequence(described, batch_first=True)
        weights = [h_ed.new_full((len(h_ed),), 1 / len(h_ed)) for h_ed in described]
        weights_KE = torch.nn.utils.rnn.pad_sequence(weights, batch_first=True)
        return cls(torch.tensor(labels, device=h_KEd.device), h_KEd, weights_KE)

    @property
    def mean_Kd(self) -> Tensor:
        """Mean of each class's descriptions, not normalised."""
        return (self.weights_KE[..., None] * self.h_KEd).sum(dim=1)


def distance(kind: Distill, W_KMd: Tensor, targets: Targets, matches_KM: Tensor | None = None) -> Tensor:
    """L_LLM = mean over classes (and images) of the distance of prompts and descriptions: a scalar.

    Args:
        W_KMd: prompts' text features (...,K,M,d).
        matches_KM: for "match", the description of each prompt (`match`).
    """
    if kind == "pair_mean":  # 1 - the mean of all cosines: linear in the two means
        return (1 - (W_KMd.mean(dim=-2) * targets.mean_Kd).sum(dim=-1)).mean()
    if kind == "centroid":
        return (1 - F.cosine_similarity(W_KMd.mean(dim=-2), targets.mean_Kd, dim=-1)).mean()
    if kind == "index":
        return _at_equal_ranks(W_KMd, targets)
    if kind == "wd":
        return _wasserstein(W_KMd, targets)
    assert matches_KM is not None
    matched_KMd = targets.h_KEd.take_along_dim(matches_KM[..., None], dim=1)
    return (1 - (W_KMd * matched_KMd).sum(dim=-1)).mean()


def match(W_KMd: Tensor, targets: Targets) -> Tensor:
    """The description of each prompt, by the assignment of the largest sum of cosines in each class: (K,M).

    Where a class has fewer descriptions than there are prompts, each is used equally often, give or take one.
    """
    chosen = []
    counts = (targets.weights_KE > 0).sum(dim=1).tolist()
    for W_Md, h_Ed, count in zip(W_KMd, targets.h_KEd, counts, strict=True):
        copies = -(-len(W_Md) // count)
        cosines_ME = (W_Md @ h_Ed[:count].T).repeat(1, copies)
        _, columns = linear_sum_assignment(cosines_ME.detach().cpu().double().numpy(), maximize=True)
        chosen.append(torch.as_tensor(columns) % count)
    return torch.stack(chosen).to(W_KMd.device)


def instance_wise(logits_BK: Tensor, image_Bd: Tensor, scale: float, targets: Targets) -> Tensor:
    """Cross-entropy -sum_k teacher_k log student_k, where the teacher's classes are the means of descriptions."""
    classes_Kd = F.normalize(targets.mean_Kd, dim=-1)
    teacher_Bk = (scale * image_Bd @ classes_Kd.T).softmax(dim=-1).detach()
    student_Bk = logits_BK.log_softmax(dim=-1)[:, targets.labels_K]
    return -(teacher_Bk * student_Bk).sum(dim=-1).mean()


def _at_equal_ranks(W_KMd: Tensor, targets: Targets) -> Tensor:
    """The first prompt with the first description and so on, as far as there are both."""
    n = min(W_KMd.shape[-2], targets.h_KEd.shape[1])
    there_Kn = (targets.weights_KE[:, :n] > 0).to(W_KMd)
    cosines_Kn = (W_KMd[..., :n, :] * targets.h_KEd[:, :n]).sum(dim=-1)
    return (1 - (cosines_Kn * there_Kn).sum(dim=-1) / there_Kn.sum(dim=-1)).mean()


def _wasserstein(W_KMd: Tensor, targets: Targets) -> Tensor:
    """sum T (1 - cos) with the entropic plan between descriptions and prompts, a constant."""
    W_1KMd = W_KMd.reshape(-1, *W_KMd.shape[-3:])
    costs = []
    for W_own_KMd in W_1KMd:
        plan_K1EM = transport_plan(
            targets.h_KEd, W_own_KMd[:, None], alpha=0.0, lambda_=WD_LAMBDA, p_BN=targets.weights_KE
        )
        costs.append((plan_K1EM[:, 0] * (1 - targets.h_KEd @ W_own_KMd.mT)).sum(dim=(-2, -1)).mean())
    return torch.stack(costs).mean()

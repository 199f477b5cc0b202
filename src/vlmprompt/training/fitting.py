"""Learning from all training features at once: in place of the loop, or before it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlmprompt.backbones.features import CachedFeatures
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.methods.given import require_record
from vlmprompt.methods.ranks import label_ranks
from vlmprompt.progress import Progress
from vlmprompt.training.setup import Setup, train_features
from vlmprompt.training.validation import val_features


def fit_before(setup: Setup, progress: Progress) -> tuple[dict[str, Any], CachedFeatures]:
    """Fit the method, whose state is then that which the loop starts from.

    Returns:
        The method's record of it, and the features it was fitted on.
    """
    train_set = train_features(setup, setup.method.fit_views, progress)
    return _fit(setup, train_set, progress), train_set


def fit_in_place(setup: Setup, progress: Progress) -> tuple[dict[str, Any], dict[str, float]]:
    """Fit a method without a loop; it is left in eval mode.

    Returns:
        The method's record of it, and the accuracy on what it was fitted on.
    """
    record, train_set = fit_before(setup, progress)
    setup.method.eval()
    with torch.no_grad():
        right = label_ranks(setup.method(train_set.features).logits, train_set.labels) == 0
    return record, {"train_accuracy": float(right.double().mean())}


def _fit(setup: Setup, train_set: CachedFeatures, progress: Progress) -> dict[str, Any]:
    method, val = setup.method, _validation(setup, progress)
    method.train()
    with method.blamed():
        return require_record(method.told, "fit", method.fit(train_set.features, train_set.labels, val))


def _validation(setup: Setup, progress: Progress) -> tuple[ImageFeatures, Tensor] | None:
    """Features and labels of the validation images; None where there are none."""
    if not setup.data.split.val:
        return None
    found = val_features(setup, progress)
    return found.features, found.labels

"""Learning from features of all images at once: a fit in place of the loop or before it, a search after it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlmprompt.backbones.features import CachedFeatures
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.methods.given import require_chosen, require_record
from vlmprompt.methods.ranks import label_ranks
from vlmprompt.progress import Progress
from vlmprompt.training.run_info import SearchInfo
from vlmprompt.training.setup import Setup
from vlmprompt.training.sources import train_features
from vlmprompt.training.validation import val_features


def fit_method(setup: Setup, progress: Progress) -> tuple[dict[str, Any], CachedFeatures]:
    """Fit the method; it is left in train mode.

    Returns:
        The method's record of it, and the features it was fitted on.
    """
    train_set, val = train_features(setup, setup.method.fit_views, progress), _validation(setup, progress)
    method = setup.method.train()
    with method.blamed():
        record = require_record(method.told, "fit", method.fit(train_set.features, train_set.labels, val))
    return record, train_set


def search(setup: Setup, progress: Progress) -> SearchInfo | None:
    """Let the trained method choose on the validation images; it is left in eval mode.

    Returns:
        What it chose; None where there is nothing to choose, or it is not to.
    """
    if not setup.searches:
        return None
    val, method = val_features(setup, progress), setup.method.eval()
    names = tuple(method.searched)
    with method.blamed(), torch.no_grad():
        found = method.search_on_val(val.features.to(setup.device), val.labels.to(setup.device))
    info = SearchInfo(names=names, val_images=len(val.labels), found=require_chosen(method.told, names, found))
    progress.message(f"chosen: {info.words}")
    return info


def val_use(setup: Setup) -> str | None:
    """What the method itself will do with the validation images, in words; None where it does nothing."""
    n, uses, method = len(setup.data.split.val), [], setup.method
    if not n or not (setup.fit_views or method.searched):
        return None
    images = f"{n} validation images"
    if not setup.config.train.val_search:
        return f"--no-val-search: the method gets none of the {images}"
    if setup.fit_views:
        uses.append(f"the fit is given {images}")
    if method.searched:
        uses.append(f"{', '.join(method.searched)} will be chosen on {images}, after training")
    return "; ".join(uses)


def accuracy_on(setup: Setup, known: CachedFeatures) -> float:
    """The share of images of which no class has a higher logit than the label; the method is left in eval mode."""
    method = setup.method.eval()
    with torch.no_grad():
        right = label_ranks(method(known.features).logits, known.labels) == 0
    return float(right.double().mean())


def _validation(setup: Setup, progress: Progress) -> tuple[ImageFeatures, Tensor] | None:
    """Features and labels of the validation images; None where there are none, or none are to be used."""
    if not setup.data.split.val or not setup.config.train.val_search:
        return None
    found = val_features(setup, progress)
    return found.features, found.labels

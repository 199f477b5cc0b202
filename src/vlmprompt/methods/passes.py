"""One pass over images without training: from features that were computed once, or from the images themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.features import CachedFeatures
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.data.loader import ImageLoader
from vlmprompt.data.records import Record
from vlmprompt.methods.contract import PromptMethod

Labelled = tuple[Tensor | ImageFeatures, Tensor]


def tower_is_frozen(method: PromptMethod) -> bool:
    """Whether the image tower gives the same features whatever the method has learned."""
    return not method.image_needs().grad and "feature_cache" in method.capabilities


def feature_batches(kept: CachedFeatures, batch_size: int, device: torch.device) -> Iterator[Labelled]:
    """Features of one view with their labels, in order."""
    for start in range(0, len(kept.labels), batch_size):
        part = slice(start, start + batch_size)
        yield kept.features[part].to(device), kept.labels[part].to(device)


def image_batches(
    records: Sequence[Record], backbone: Backbone, batch_size: int, *, workers: int
) -> Iterator[Labelled]:
    """Images under the test transform with their labels, in order; read while iterating.

    Raises (while iterating):
        InputError: an image cannot be read.
    """
    loader = ImageLoader(records, backbone.transform(train=False), batch_size, device=backbone.device, workers=workers)
    return ((batch.images_B3HW, batch.labels_B) for batch in loader)

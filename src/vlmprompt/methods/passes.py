"""One pass over images without training: from features that were computed once, or from the images themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.features import CachedFeatures
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.data.loader import ImageLoader, ImageReader, in_batches
from vlmprompt.data.records import Record
from vlmprompt.data.views import Views
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.streaming import adapts

Labelled = tuple[Tensor | ImageFeatures, Tensor]


def tower_is_frozen(method: PromptMethod) -> bool:
    """Whether the image tower gives the same features whatever the method has learned."""
    return not method.image_needs().grad and "feature_cache" in method.capabilities


def views_of(method: PromptMethod, seed: int) -> Views | None:
    """How the views of an image are made for a method that sees several of each test image; None where it sees one.

    Raises:
        PluginError: the method's own transform cannot be made.
    """
    if not adapts(method) or method.test_views == 1:
        return None
    with method.blamed():
        random = method.view_transform()
    return Views(method.test_views, method.backbone.transform(train=False), random, seed)


def feature_batches(
    kept: CachedFeatures, batch_size: int, device: torch.device, *, order: Sequence[int] | None = None
) -> Iterator[Labelled]:
    """Features of one view with their labels, as they are, or those of an order."""
    for start in range(0, len(kept.labels if order is None else order), batch_size):
        rows = slice(start, start + batch_size)
        part = rows if order is None else torch.tensor(list(order[rows]), device=kept.labels.device)
        yield kept.rows(part).to(device), kept.labels[part].to(device)


def image_batches(
    records: Sequence[Record],
    backbone: Backbone,
    batch_size: int,
    *,
    workers: int | None,
    order: Sequence[int] | None = None,
    views: Views | None = None,
) -> Iterator[Labelled]:
    """Images under the test transform with their labels, as they are or in another order; read while iterating.

    Args:
        views: give these of each image, (B,V,3,H,W), in place of the one; a batch holds about as many of them as it
            would hold images.

    Raises (while iterating):
        InputError: an image cannot be read.
    """
    loader = ImageLoader(
        records,
        views or backbone.transform(train=False),
        batch_size if views is None else max(1, batch_size // views.count),
        device=backbone.device,
        workers=workers,
        order=order,
    )
    return ((batch.images_B3HW, batch.labels_B) for batch in loader)


def repeated_batches(
    records: Sequence[Record],
    backbone: Backbone,
    batch_size: int,
    *,
    workers: int | None,
    order: Sequence[int] | None = None,
) -> Callable[[], Iterator[Labelled]]:
    """What gives `image_batches` as often as it is called; images are decoded once, unless they are too many.

    Raises (while iterating):
        InputError: an image cannot be read.
    """
    transform = backbone.transform(train=False)
    reader = ImageReader(records, transform, device=backbone.device, workers=workers, repeated=True)
    places = in_batches(range(len(records)) if order is None else order, None, None, batch_size)
    return lambda: ((batch.images_B3HW, batch.labels_B) for batch in reader.read(places))

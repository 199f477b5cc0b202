"""The accuracy on the validation images while a run goes on, and what it decides: which state is kept, when to stop.

Shapes: B images, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlmprompt.backbones.features import CachedFeatures, extract, feature_bytes
from vlmprompt.config.models import TrainConfig
from vlmprompt.data.records import Record
from vlmprompt.errors import InputError
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.passes import Labelled, feature_batches, repeated_batches, tower_is_frozen
from vlmprompt.methods.ranks import label_ranks
from vlmprompt.parallel.exchange import side_by_side
from vlmprompt.parallel.group import ALONE, Group
from vlmprompt.parallel.rows import whole_batches
from vlmprompt.progress import Progress
from vlmprompt.training.checkpoint import Position
from vlmprompt.training.setup import Setup

# Features of validation images are kept up to this size; larger ones are computed at every measurement.
KEPT_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Validation:
    """Measures a method as it is, and leaves it as it was: in train mode, no random number drawn.

    Attributes:
        records: the validation images, in the order of the batches.
        batches: one pass over them under the test transform, the same each time; of several processes each has
            its own part.
        start: the first of these records.
        group: the processes.
    """

    method: PromptMethod
    records: Sequence[Record]
    batches: Callable[[], Iterator[Labelled]]
    start: int = 0
    group: Group = ALONE

    def accuracy(self, stop: Callable[[], bool]) -> float | None:
        """The share of images of which no class has a higher logit than the label; None if told to stop before.

        Of several processes all give the same.

        Args:
            stop: asked before each batch.

        Raises:
            InputError: a logit is NaN or infinite, or an image cannot be read; the image is named.
        """
        self.method.eval()
        try:
            with torch.no_grad():
                return self._accuracy(stop)
        finally:
            self.method.train()

    def _accuracy(self, stop: Callable[[], bool]) -> float | None:
        if self.group.alone:
            counts = self._counted(stop)
        else:
            found = side_by_side(self.group, lambda: {"counts": torch.tensor([self._counted(stop)])})
            counts = tuple(found["counts"].sum(dim=0).tolist())
        right, seen, stopped = counts
        return None if stopped else right / seen

    def _counted(self, stop: Callable[[], bool]) -> tuple[int, int, int]:
        """Images that were right, images, and whether it was told to stop."""
        with self.method.blamed():
            text = self.method.frozen_text()
        right = seen = 0
        for images, labels_B in self.batches():
            if stop():
                return right, seen, 1
            logits_BK = self.method(images, text=text).logits
            self._require_finite(logits_BK, self.start + seen)
            right += int((label_ranks(logits_BK, labels_B) == 0).sum())
            seen += len(labels_B)
        return right, seen, 0

    def _require_finite(self, logits_BK: Tensor, seen: int) -> None:
        bad = (~logits_BK.isfinite().all(dim=1)).nonzero().flatten().tolist()
        if bad:
            raise InputError(
                f"the logits of validation image {self.records[seen + bad[0]].id} are not finite, so accuracy "
                "would mean nothing",
                hint="look at the image, or use --precision fp32; the last good state is kept",
            )


def make_validation(setup: Setup, progress: Progress, group: Group = ALONE) -> Validation | None:
    """What measures the validation images of a run; None where none are to be measured.

    Where the image tower is frozen their features are computed now, once, which gives the same numbers.
    """
    config, records = setup.config.train, setup.data.split.val
    if config.validate_every is None:
        return None
    method, backbone, device = setup.method, setup.backbone, setup.device
    size, workers = config.eval_batch_size, setup.runtime.workers
    own = whole_batches(group, len(records), size)
    order = None if group.alone else own
    if tower_is_frozen(method) and feature_bytes(method.image_needs(), backbone, len(records)) <= KEPT_BYTES:
        kept = val_features(setup, progress)
        return Validation(method, records, lambda: feature_batches(kept, size, device, order=order), own.start, group)
    batches = repeated_batches(records, backbone, size, workers=workers, order=order)
    return Validation(method, records, batches, own.start, group)


def val_features(setup: Setup, progress: Progress) -> CachedFeatures:
    """Features of the validation images, under the test transform; those of moderate size are computed once a run."""
    if "val" in setup.computed:
        return setup.computed["val"]
    was_training = setup.method.training
    setup.method.eval()  # what is read of an image may depend on its label in training
    with setup.method.blamed(wide=True):
        found = extract(
            setup.method,
            setup.data.split.val,
            backbone=setup.backbone,
            runtime=setup.runtime,
            batch_size=setup.config.train.eval_batch_size,
            progress=progress,
            description="features of validation images",
        )
    setup.method.train(was_training)
    if found.held <= KEPT_BYTES:
        setup.computed["val"] = found
    return found


def is_over(train: TrainConfig, position: Position) -> bool:
    """Whether measurements have not got better for too long."""
    return train.patience is not None and position.waited >= train.patience

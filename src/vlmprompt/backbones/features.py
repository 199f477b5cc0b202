"""Image features computed once: for methods whose image tower is frozen, an epoch is then a walk over tensors.

Either one deterministic view of each image (exact), or V recorded random views. Kept in memory, and with a
cache folder also on disk (see `feature_file`); the key is a digest of the tower's weights, its arithmetic, its
transform, what was read of it, the views and the images (ids, and files by size and modification time, others by their
keys).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.feature_file import LABELS, FeatureFile
from vlmprompt.backbones.outliving import outliving
from vlmprompt.backbones.types import ImageFeatures, ImageNeeds
from vlmprompt.claims.work import take
from vlmprompt.config.models import Runtime
from vlmprompt.data.contents import file_state, image_key, says_which
from vlmprompt.data.images import VERSION
from vlmprompt.data.loader import ImageLoader
from vlmprompt.data.records import Record, records_digest
from vlmprompt.errors import InputError
from vlmprompt.progress import Progress, SilentProgress

# Below this size features stay on the device that computed them; above, in main memory.
ON_DEVICE_BYTES = 4 * 2**30


class FeatureReader(Protocol):
    """The part of a method that decides what is read of an image."""

    def image_needs(self) -> ImageNeeds:
        """See `PromptMethod.image_needs`."""

    def image_extra(self, images: Tensor, labels: Tensor | None) -> Mapping[str, Tensor]:
        """See `PromptMethod.image_extra`."""

    def feature_key(self) -> str:
        """See `PromptMethod.feature_key`."""


@dataclass(frozen=True)
class CachedFeatures:
    """Features of V views of n images, view after view: row v*n + i is view v of record i.

    Attributes:
        features: raw features of all V*n rows.
        labels: (V*n,).
        views: V.
        bytes: their size.
        source: "computed" or the file they were read from.
    """

    features: ImageFeatures
    labels: Tensor
    views: int
    source: str = "computed"

    @property
    def bytes(self) -> int:
        """Size of all tensors."""
        return sum(t.numel() * t.element_size() for t in self.features.tensors().values())


@outliving()
def extract(
    method: FeatureReader,
    records: Sequence[Record],
    *,
    backbone: Backbone,
    runtime: Runtime,
    views: int = 1,
    seed: int = 0,
    batch_size: int = 100,
    progress: Progress | None = None,
    description: str = "image features",
    labelled: bool = True,
) -> CachedFeatures:
    """Features of records as a method needs them.

    Args:
        views: 1 = the deterministic test view; V > 1 = V random training views, recorded by `seed`.
        batch_size: images a step of the tower.
        labelled: tell the method the labels; off where the records have none (-1).

    Raises:
        InputError: the method needs gradients through the tower, or an image cannot be read.
    """
    if method.image_needs().grad:
        raise InputError("this method trains through the image tower, its features cannot be cached")
    shown: Progress = progress or SilentProgress()

    def computed() -> CachedFeatures:
        shown.message(_cost(method, backbone, len(records), views))
        rows = list(_compute(method, records, backbone, runtime, views, seed, batch_size, shown, description, labelled))
        return CachedFeatures(ImageFeatures.cat(f for f, _ in rows), torch.cat([y for _, y in rows]), views)

    file = _cache_file(method, records, backbone, runtime, views, seed, shown)
    return computed() if file is None else _kept(file, views, computed, shown)


def _kept(file: FeatureFile, views: int, compute: Callable[[], CachedFeatures], progress: Progress) -> CachedFeatures:
    """Features from their file; of many processes that want the same, one computes them, and the others wait."""
    found: list[CachedFeatures] = []

    def read() -> bool:
        named = file.read(progress)
        if named is not None:
            labels = named.pop(LABELS)
            found.append(CachedFeatures(ImageFeatures.from_tensors(named), labels, views, str(file.path)))
        return named is not None

    def attempt(file: FeatureFile) -> None:
        if read():
            return
        before = file.state()  # not None: it cannot be used
        with file.claimed():
            if file.state() not in (None, before) and read():  # made by whoever had the claim until now
                return
            found.append(compute())
            file.write({**found[0].features.tensors(), LABELS: found[0].labels}, progress)

    for _ in take([file], attempt, progress):
        pass
    return found[0]


def feature_bytes(needs: ImageNeeds, backbone: Backbone, n_rows: int) -> int:
    """Size of fp32 features of n rows, known before they are computed."""
    vision = backbone.vision
    width = vision.joint_dim if needs.space == "joint" else vision.local_width
    return 4 * n_rows * (vision.joint_dim + (vision.n_local * width if needs.local else 0))


def _cost(method: FeatureReader, backbone: Backbone, n: int, views: int) -> str:
    size = feature_bytes(method.image_needs(), backbone, n * views)
    kind = "1 deterministic view" if views == 1 else f"{views} random views"
    return f"computing features of {n} images, {kind}: {size / 1e6:.1f} MB"


def _compute(
    method: FeatureReader,
    records: Sequence[Record],
    backbone: Backbone,
    runtime: Runtime,
    views: int,
    seed: int,
    batch_size: int,
    progress: Progress,
    description: str,
    labelled: bool,
) -> Iterator[tuple[ImageFeatures, Tensor]]:
    """Batches of features and labels, on the device where they are small enough together."""
    needs = method.image_needs()
    small = feature_bytes(needs, backbone, len(records) * views) <= ON_DEVICE_BYTES
    home = backbone.device if small else torch.device("cpu")
    with progress.task(description, len(records) * views, unit="img") as task:
        for view in range(views):
            loader = ImageLoader(
                records,
                backbone.transform(train=views > 1),
                batch_size,
                device=backbone.device,
                workers=runtime.workers,
                augment_seed=(seed, view) if views > 1 else None,
            )
            for batch in loader:
                features = backbone.encode_image(batch.images_B3HW, needs)
                extra = method.image_extra(batch.images_B3HW, batch.labels_B if labelled else None)
                kept = replace(features, extra=extra)
                yield kept.to(home, torch.float32), batch.labels_B.to(home)
                task.advance(len(batch.labels_B))


def _cache_file(
    method: FeatureReader,
    records: Sequence[Record],
    backbone: Backbone,
    runtime: Runtime,
    views: int,
    seed: int,
    progress: Progress,
) -> FeatureFile | None:
    if runtime.feature_cache is None:
        return None
    unknown = next((record for record in records if not says_which(record)), None)
    if unknown is not None:
        kind = type(unknown.image).__name__
        progress.warn(
            f"features are not kept on disk: image {unknown.id} is no file, and its {kind} has no key that says which "
            "image it is"
        )
        return None
    key = {
        "backbone": backbone.digest,
        "transform": asdict(backbone.preprocess),
        "needs": _read(method.image_needs()),
        "method": method.feature_key(),
        "views": views,
        "seed": seed if views > 1 else None,
        "records": records_digest(records),
        "pixels": [VERSION, any(record.upright for record in records)],
        "files": [_state(record) for record in records],
        **_arithmetic(backbone),
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
    labels = torch.tensor([record.label for record in records]).repeat(views)
    return FeatureFile(runtime.feature_cache / f"features-{digest[:32]}.safetensors", digest, labels)


def _read(needs: ImageNeeds) -> dict[str, object]:
    """What is read of the tower; without what most methods do not ask for, as it always was."""
    read = asdict(needs)
    return read if needs.prompt_outputs else {k: v for k, v in read.items() if k != "prompt_outputs"}


def _arithmetic(backbone: Backbone) -> dict[str, object]:
    """What equal weights compute otherwise by; empty as most towers are, whose keys stay what they were."""
    precision = backbone.identity.precision
    return ({} if precision == "fp32" else {"precision": precision}) | ({"quick": True} if backbone.is_quick else {})


def _state(record: Record) -> object:
    """What an image is known by; None where its id says it all."""
    if isinstance(record.image, Path):
        return file_state(record.image)
    return None if getattr(record.image, "key", None) == record.id else image_key(record)

"""What features hang on, and so the names of the files that hold them.

The tower's weights and arithmetic, its transform, what is read of it, the view, the images (ids, labels, and files by
size and modification time, others by their keys), the batch in which they are computed, the device and the versions of
what computes: whatever could change a bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.extraction import Extraction, FeatureReader, Part
from vlmprompt.backbones.types import ImageNeeds
from vlmprompt.backbones.unrecorded import is_fast
from vlmprompt.data.contents import file_state, image_key, says_which
from vlmprompt.data.images import VERSION
from vlmprompt.data.records import Record
from vlmprompt.digests import digest_of

LAYOUT = 1  # of the files
LOCAL_KINDS = ("value_block", "value_only", "value_attention", "tokens")


class Keys:
    """Digests of parts of an extraction, as a reader reads them.

    Args:
        work: of which every image says which one it is, see `nameless`.
    """

    def __init__(self, work: Extraction) -> None:
        self._work = work
        self._states = [_state(record) for record in work.records]
        self._tower = _tower(work.backbone) | {
            "batch": work.batch_size,
            "dtype": work.runtime.feature_dtype,
            "layout": LAYOUT,
        }
        self._images: dict[Part, str] = {}

    def of(self, reader: FeatureReader, part: Part) -> str:
        """SHA-256 of all that a reader's features of a part depend on."""
        return self._key(reader.image_needs(), reader.feature_key(), part)

    def holding(self, reader: FeatureReader, part: Part) -> list[str]:
        """Keys of features that hold those of a reader beside others."""
        vision = self._work.backbone.vision
        if reader.feature_key() or reader.image_needs() != ImageNeeds() or not vision.n_local:
            return []
        more = [ImageNeeds(local=kind, space=space) for kind in LOCAL_KINDS for space in ("joint", "pre_proj")]  # type: ignore[arg-type]
        return [self._key(needs, "", part) for needs in more if vision.shares_global(needs)]

    def _key(self, needs: ImageNeeds, own: str, part: Part) -> str:
        return digest_of([self._tower, asdict(needs), own, self._of_images(part)])

    def _of_images(self, part: Part) -> str:
        if part not in self._images:
            work, rows = self._work, range(part.start, part.stop)
            images = [(r.id, r.label, r.upright, self._states[i]) for i, r in ((i, work.records[i]) for i in rows)]
            # The random view of an image hangs on its place in the list.
            view = [work.seed, part.view, part.start] if work.views > 1 else None
            self._images[part] = digest_of([images, view])
        return self._images[part]


def nameless(records: Sequence[Record]) -> Record | None:
    """The first image that does not say which one it is; None where all do."""
    return next((record for record in records if not says_which(record)), None)


def _tower(backbone: Backbone) -> dict[str, Any]:
    return {
        "backbone": backbone.digest,
        "transform": asdict(backbone.preprocess),
        "precision": backbone.identity.precision,
        "quick": backbone.is_quick,
        "pixels": VERSION,
        "device": _device(backbone.device),
        "versions": _versions(),
    }


def _device(device: torch.device) -> str:
    """What rounds otherwise: cards of other names, other instructions of a CPU, numbers of threads, linear maps."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    maps = "packed, few without keys" if is_fast() else "plain"
    return f"cpu, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads, {maps}"


@cache
def _versions() -> dict[str, str]:
    """Of what decodes images and computes."""
    return {name: version(name) for name in ("torch", "torchvision", "pillow", "open_clip_torch", "timm")}


def _state(record: Record) -> object:
    """What an image is known by; None where its id says it all."""
    if isinstance(record.image, Path):
        return file_state(record.image)
    return None if getattr(record.image, "key", None) == record.id else image_key(record)

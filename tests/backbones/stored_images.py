"""Pictures that say which they are, and count how often they are looked at; and features of them in a store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from tests.training.material import Hooked
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.cached import CachedFeatures
from vlmprompt.backbones.extraction import PlainReader
from vlmprompt.backbones.features import extract
from vlmprompt.backbones.types import ImageNeeds
from vlmprompt.config.models import Runtime
from vlmprompt.data.records import Record

GLOBAL = PlainReader(ImageNeeds())
LOCAL = PlainReader(ImageNeeds(local="value_block"))
ROW = 32 * 4  # bytes of a global feature
LOCAL_ROW = ROW * (1 + 16)  # with those of 16 patches


@dataclass(frozen=True)
class Tint:
    """One colour."""

    number: int
    seen: ClassVar[list[int]] = []

    @property
    def key(self) -> str:
        return f"tint {self.number}"

    def load(self) -> Image.Image:
        self.seen.append(self.number)
        return Image.new("RGB", (32, 32), (self.number * 9 % 256, self.number * 31 % 256, 90))


def tints(n: int) -> list[Record]:
    """So many pictures, of two classes in turn."""
    return [Record(f"tints/{i}", i % 2, Tint(i)) for i in range(n)]


class Wanting:
    """Extraction with everything but the reader settled; keeps what was said."""

    def __init__(self, backbone: Backbone, folder: Path) -> None:
        self.backbone, self.folder, self.progress = backbone, folder, Hooked()

    def __call__(self, reader: Any = GLOBAL, n: int = 10, **more: Any) -> CachedFeatures:
        return extract(reader, tints(n), **self.settled(more))

    def settled(self, more: dict[str, Any]) -> dict[str, Any]:
        views = {key: more.pop(key) for key in ("views", "seed") if key in more}
        where = {"device": "cpu", "workers": 0, "feature_cache": self.folder} | more
        return {
            "backbone": self.backbone,
            "runtime": Runtime(**where),
            "batch_size": 2,
            "progress": self.progress,
        } | views

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.glob("features-*"))

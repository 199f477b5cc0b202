"""8-bit pixels of images that are read in every epoch and always look the same, kept in main memory.

Shapes: n images, 3 colours, H x W pixels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence

from torch import Tensor

from vlmprompt.data.contents import key_here
from vlmprompt.data.preprocess import TowerTransform, Transform
from vlmprompt.data.records import Record
from vlmprompt.data.views import Views

LIMIT = 2**28  # bytes: 1,700 images of 224 x 224 pixels, 20,000 of 64 x 64


class Pixels:
    """Of a process: what its runs have decoded, up to a limit; the oldest go first."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self._kept: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable) -> Tensor | None:
        """(3,H,W), uint8; None where it is not here."""
        return self._kept.get(key)

    def put(self, key: Hashable, pixels_3HW: Tensor) -> None:
        """Keep an image, which must not be changed any more."""
        if key not in self._kept:
            self._kept[key] = pixels_3HW
            self._bytes += pixels_3HW.nbytes
        while self._bytes > self.limit:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes


PIXELS = Pixels()


class Remembered:
    """The pixels of some records, as far as they have been read, for as long as somebody reads them.

    Args:
        transform: makes no random views.
        pixels: where others may have left some.
    """

    def __init__(self, records: Sequence[Record], transform: TowerTransform, pixels: Pixels) -> None:
        self._records, self._transform, self._pixels = records, repr(transform), pixels
        self._own: dict[int, tuple[Hashable, Tensor]] = {}

    @classmethod
    def of(
        cls, records: Sequence[Record], transform: Transform | Views, views: int, pixels: Pixels | None = None
    ) -> Remembered | None:
        """None where each pass makes other views, or the images are too many."""
        if not isinstance(transform, TowerTransform) or transform.random or views > 1:
            return None
        height, width = transform.config.sides
        pixels = PIXELS if pixels is None else pixels
        return cls(records, transform, pixels) if len(records) * 3 * height * width <= pixels.limit else None

    def missing(self, indices: Sequence[int]) -> list[int]:
        """Which of these images have to be read, each once; a file that has changed since is one of them."""
        found = []
        for index in dict.fromkeys(indices):
            key = self._key(index)
            own, kept = self._own.get(index), self._pixels.get(key)
            if own is not None and own[0] == key:
                continue
            if kept is None:
                found.append(index)
            else:
                self._own[index] = key, kept
        return found

    def put(self, index: int, pixels_3HW: Tensor) -> None:
        """What was read of an image."""
        key = self._key(index)
        self._own[index] = key, pixels_3HW
        self._pixels.put(key, pixels_3HW)

    def __len__(self) -> int:
        return len(self._own)

    def __getitem__(self, index: int) -> Tensor:
        return self._own[index][1]

    def _key(self, index: int) -> Hashable:
        return self._transform, key_here(self._records[index])

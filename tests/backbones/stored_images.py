"""Pictures that say which they are, and count how often they are looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from PIL import Image

from vlmprompt.data.records import Record


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

"""Images that look alike although their bytes differ: saved again, scaled, brightened a little.

The rule: an image is scaled to 9 x 9 grey levels. Each of the 8 x 8 first ones is compared with its right and its
lower neighbour; a neighbour that is brighter by more than 2 of 255 levels gives a 1, so 128 bits in all. Two images
look alike if at most 8 of the bits differ and their mean colours differ by at most 24 of 255 in each channel. It is a
suspicion: a series of photographs from one place looks alike as well, and a cropped or mirrored copy does not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image

SIDE = 8
BITS = 2 * SIDE * SIDE
MAX_BITS = 8
MAX_COLOUR = 24  # of 255
BRIGHTER = 2  # levels; less is noise, and an even area has no pattern of its own


@dataclass(frozen=True, slots=True)
class Look:
    """What an image looks like: see the rule at the top of this module."""

    bits: int
    colour: tuple[int, int, int]

    def alike(self, other: Look) -> bool:
        """Whether two images look alike."""
        if (self.bits ^ other.bits).bit_count() > MAX_BITS:
            return False
        return all(abs(a - b) <= MAX_COLOUR for a, b in zip(self.colour, other.colour, strict=True))


def look_of(image: Image.Image) -> Look:
    """The look of an RGB image."""
    size = (SIDE + 1, SIDE + 1)
    grey = np.asarray(image.convert("L").resize(size, Image.Resampling.BOX), dtype=np.int16)
    here = grey[:-1, :-1] + BRIGHTER
    bits = np.concatenate([(grey[:-1, 1:] > here).ravel(), (grey[1:, :-1] > here).ravel()])
    red, green, blue = np.asarray(image.resize((1, 1), Image.Resampling.BOX)).reshape(3).tolist()
    return Look(int.from_bytes(np.packbits(bits).tobytes(), "big"), (red, green, blue))


def pairs_alike(looks: Sequence[Look]) -> list[tuple[int, int]]:
    """Positions of images that look alike, each pair once, in order.

    Of two that differ in at most 8 bits, one of 9 bands of bits is equal: only such pairs are compared.
    """
    found: set[tuple[int, int]] = set()
    for start, stop in _bands():
        mask = (1 << (stop - start)) - 1
        found |= _pairs(looks, _grouped((look.bits >> start) & mask for look in looks))
    return sorted(found)


def _bands() -> list[tuple[int, int]]:
    edges = [round(i * BITS / (MAX_BITS + 1)) for i in range(MAX_BITS + 2)]
    return list(pairwise(edges))


def _grouped(keys: Iterable[int]) -> Mapping[int, list[int]]:
    groups: dict[int, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        groups[key].append(i)
    return groups


def _pairs(looks: Sequence[Look], groups: Mapping[int, list[int]]) -> set[tuple[int, int]]:
    return {
        (i, k)
        for group in groups.values()
        for place, i in enumerate(group)
        for k in group[place + 1 :]
        if looks[i].alike(looks[k])
    }

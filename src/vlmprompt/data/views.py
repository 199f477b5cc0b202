"""Several views of a picture: the plain one of the tests first, then random ones.

Shapes: V views, H x W pixels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from PIL.Image import Image
from torch import Tensor

from vlmprompt.data.preprocess import Transform


@dataclass(frozen=True)
class Views:
    """Makes the views of pictures; each is a pure function of the seed, the picture's id and the number of the view.

    Random transforms see torch's global generator on the CPU, seeded for each view and restored afterwards.

    Attributes:
        count: V, the plain one included.
        plain: the test transform.
        random: makes each further view; picklable where processes are spawned.
    """

    count: int
    plain: Transform
    random: Transform
    seed: int = 0

    def __call__(self, image: Image, name: str) -> Tensor:
        """(V,3,H,W).

        Args:
            name: the picture's id.
        """
        views = [self.plain(image)]
        with torch.random.fork_rng(devices=[]):
            for view in range(1, self.count):
                # The CPU generator alone: torch.manual_seed would also seed CUDA's, which is not restored.
                torch.default_generator.manual_seed(mixed_seed(self.seed, name, view))
                views.append(self.random(image))
        return torch.stack(views)


def pixels_id(image: Image) -> str:
    """An id for a picture that has none: a digest of its pixels."""
    return hashlib.blake2b(image.tobytes(), digest_size=16, person=repr(image.size).encode()[:16]).hexdigest()


def mixed_seed(*parts: object) -> int:
    """64 well-mixed bits: neighbouring seeds, positions or repetitions share nothing."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little")

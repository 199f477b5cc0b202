"""Resizing and cropping of Pillow images, random crops included; to the bit what torchvision.transforms makes of them.

torchvision itself is not imported: that loads torch's compiler, which takes longer than torch.

Shapes: H x W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL.Image import Image, Resampling, Transpose
from torch import Tensor

_TRIES = 10  # of a random crop, before the middle is taken


def resized(image: Image, sides: tuple[int, int], filter_: Resampling) -> Image:
    """The image with another height and width; itself where it has them."""
    height, width = sides
    return image if image.size == (width, height) else image.resize((width, height), filter_)


def covering(image: Image, size: int, filter_: Resampling) -> Image:
    """The image with its short side of `size` pixels, the long one rounded down."""
    short, long = sorted(image.size)
    other = int(size * long / short)
    return resized(image, (other, size) if image.width <= image.height else (size, other), filter_)


def middle(image: Image, sides: tuple[int, int]) -> Image:
    """The middle of an image, of a height and width; what lies outside is black. Itself where it has these sides."""
    height, width = sides
    if image.size == (width, height):
        return image
    # Where the image is smaller, the odd pixel of padding is on its far side; where it is larger, halves go to even.
    left, top = (_start(own, wanted) for own, wanted in ((image.width, width), (image.height, height)))
    return image.crop((left, top, left + width, top + height))


def _start(own: int, wanted: int) -> int:
    return -((wanted - own) // 2) if wanted > own else round((own - wanted) / 2)


@dataclass(frozen=True)
class RandomCrop:
    """A random crop of 8 to 100 % of the area (sides 3:4 to 4:3), resized, and a flip half of the time.

    Draws are from torch's global generator, in the order of torchvision's `RandomResizedCrop` and
    `RandomHorizontalFlip`.

    Attributes:
        sides: height and width of the result.
    """

    sides: tuple[int, int]
    filter_: Resampling = Resampling.BILINEAR
    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __call__(self, image: Image) -> Image:
        left, top, width, height = self._box(image.width, image.height)
        crop = resized(image.crop((left, top, left + width, top + height)), self.sides, self.filter_)
        return crop.transpose(Transpose.FLIP_LEFT_RIGHT) if float(torch.rand(1)) < 0.5 else crop

    def _box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, width and height of the crop."""
        low, high = _logs(self.ratio)
        for _ in range(_TRIES):
            area = height * width * torch.empty(1).uniform_(*self.area).item()
            ratio = torch.exp(torch.empty(1).uniform_(low, high)).item()
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                top = int(torch.randint(height - h + 1, (1,)))
                return int(torch.randint(width - w + 1, (1,))), top, w, h
        w = min(width, round(height * max(self.ratio)))
        h = min(height, round(width / min(self.ratio)))
        return (width - w) // 2, (height - h) // 2, w, h


@cache
def _logs(ratio: tuple[float, float]) -> tuple[float, float]:
    """In fp32, as torchvision has them."""
    low, high = torch.log(torch.tensor(ratio)).tolist()
    return low, high


def pixels(image: Image) -> Tensor:
    """The pixels of an RGB image: (3,H,W), uint8."""
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())  # numpy copies sooner than torch


@dataclass(frozen=True)
class Normalise:
    """From 8-bit pixels to what a tower reads, on whatever device they are: (*,3,H,W) to the same in fp32.

    Attributes:
        mean: per channel, of values in [0, 1].
        std: likewise.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pixels: Tensor) -> Tensor:
        mean, std = (torch.tensor(values, device=pixels.device)[:, None, None] for values in (self.mean, self.std))
        return pixels.to(torch.float32).div_(255).sub_(mean).div_(std)

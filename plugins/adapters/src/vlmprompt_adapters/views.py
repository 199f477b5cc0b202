"""The random views of TPT and TDA: crops, flips, and AugMix on top.

Shapes: h x w pixels of the tower's input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import ImageOps
from PIL.Image import Image, Resampling, Transform
from torch import Tensor
from torchvision.transforms import RandomHorizontalFlip, RandomResizedCrop
from torchvision.transforms import functional as F

CHAINS, LONGEST = 3, 3  # of AugMix: chains that are mixed, and operations of a chain
# An operation: a picture and its strength in [0.1, 1) -> a picture of the same size.
Operation = Callable[[Image, float], Image]


@dataclass(frozen=True)
class RandomView:
    """A random view of a picture in RGB: (3,h,w).

    A crop of 8 to 100 % of the area (sides 3:4 to 4:3), resized bilinearly, and a flip half of the time. With AugMix
    (Hendrycks et al., ICLR 2020) the normalised result is mixed with three chains of one to three operations each,
    whose severity is 1; weights are Dirichlet(1,1,1) and Beta(1,1). As in the codes of TPT and TDA, which draw from
    NumPy's generator, so that their very views differ. All draws are from torch's global generator.

    Attributes:
        sides: h and w.
        mean: per channel, of values in [0, 1].
        std: likewise.
    """

    sides: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmix: bool

    def __call__(self, image: Image) -> Tensor:
        crop: Image = RandomHorizontalFlip()(RandomResizedCrop(self.sides)(image))
        plain = self._tensor(crop)
        if not self.augmix:
            return plain
        weights = torch.rand(CHAINS).clamp_min(1e-12).log().neg()  # exponential, so that their shares are Dirichlet
        share = float(torch.rand(()))
        mixed = torch.zeros_like(plain)
        for weight in (weights / weights.sum()).tolist():
            mixed += weight * self._tensor(_chain(crop))
        return share * plain + (1 - share) * mixed

    def _tensor(self, image: Image) -> Tensor:
        values: Tensor = F.normalize(F.to_tensor(image), list(self.mean), list(self.std))
        return values


def _chain(image: Image) -> Image:
    for _ in range(int(torch.randint(1, LONGEST + 1, ()))):
        operation = OPERATIONS[int(torch.randint(len(OPERATIONS), ()))]
        image = operation(image, 0.1 + 0.9 * float(torch.rand(())))
    return image


def _sign() -> int:
    return 1 if float(torch.rand(())) < 0.5 else -1


def _moved(image: Image, matrix: tuple[float, ...]) -> Image:
    """Under an affine map of output places to input places; what lies outside is black."""
    return image.transform(image.size, Transform.AFFINE, matrix, resample=Resampling.BILINEAR)


def _rotate(image: Image, strength: float) -> Image:
    return image.rotate(_sign() * int(3 * strength), resample=Resampling.BILINEAR)


def _shear_x(image: Image, strength: float) -> Image:
    return _moved(image, (1, _sign() * 0.03 * strength, 0, 0, 1, 0))


def _shear_y(image: Image, strength: float) -> Image:
    return _moved(image, (1, 0, 0, _sign() * 0.03 * strength, 1, 0))


def _translate_x(image: Image, strength: float) -> Image:
    return _moved(image, (1, 0, _sign() * int(strength * image.width / 30), 0, 1, 0))


def _translate_y(image: Image, strength: float) -> Image:
    return _moved(image, (1, 0, 0, 0, 1, _sign() * int(strength * image.height / 30)))


def _posterize(image: Image, strength: float) -> Image:
    return ImageOps.posterize(image, 4)  # bits a channel, whatever the strength at severity 1


def _solarize(image: Image, strength: float) -> Image:
    return ImageOps.solarize(image, 256 - int(25.6 * strength))


OPERATIONS: tuple[Operation, ...] = (
    lambda image, _: ImageOps.autocontrast(image),
    lambda image, _: ImageOps.equalize(image),
    _posterize,
    _rotate,
    _solarize,
    _shear_x,
    _shear_y,
    _translate_x,
    _translate_y,
)

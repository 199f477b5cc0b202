"""Resizing, cropping and normalising, to the bit as torchvision does them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.Image import Resampling
from torchvision import transforms
from torchvision.transforms import functional as F

from vlmprompt.data.crops import Normalise, RandomCrop, covering, middle, pixels, resized

SIZES = [(40, 30), (30, 41), (9, 50), (50, 9), (16, 16), (5, 7)]  # width and height
FILTERS = [Resampling.BICUBIC, Resampling.BILINEAR]


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(width * 100 + height).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def _mode(filter_: Resampling) -> transforms.InterpolationMode:
    return transforms.InterpolationMode[filter_.name]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("filter_", FILTERS)
def test_resizing(size: tuple[int, int], filter_: Resampling) -> None:
    image = noise(*size)
    assert resized(image, (13, 17), filter_) == F.resize(image, [13, 17], _mode(filter_))
    assert covering(image, 16, filter_) == F.resize(image, [16], _mode(filter_))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sides", [(8, 8), (16, 16), (16, 17), (60, 61), (10, 45)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_middle(size: tuple[int, int], sides: tuple[int, int], mode: str) -> None:
    image = noise(*size, mode)
    assert middle(image, sides) == F.center_crop(image, list(sides))


@pytest.mark.parametrize("size", [*SIZES, (2, 90), (90, 2), (1, 1)])
@pytest.mark.parametrize("filter_", FILTERS)
def test_random_crops_and_flips(size: tuple[int, int], filter_: Resampling) -> None:
    image = noise(*size)
    theirs = transforms.Compose(
        [
            transforms.RandomResizedCrop((12, 10), scale=(0.08, 1.0), interpolation=_mode(filter_)),
            transforms.RandomHorizontalFlip(),
        ]
    )
    ours = RandomCrop((12, 10), filter_)
    for seed in range(12):
        torch.manual_seed(seed)
        expected, state = theirs(image), torch.get_rng_state()
        torch.manual_seed(seed)
        assert ours(image) == expected
        assert torch.equal(torch.get_rng_state(), state)  # as many numbers were drawn


def test_normalising_one_picture_or_many() -> None:
    mean, std = (0.48, 0.45, 0.4), (0.27, 0.26, 0.28)
    theirs = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
    images = [noise(20, 18), noise(20, 18).transpose(Image.Transpose.ROTATE_180)]
    ours = Normalise(mean, std)
    expected = torch.stack([theirs(image) for image in images])
    eight_bits = torch.stack([pixels(image) for image in images])
    assert eight_bits.dtype == torch.uint8 and eight_bits.shape == (2, 3, 18, 20)
    assert torch.equal(ours(eight_bits), expected)
    assert torch.equal(torch.stack([ours(image) for image in eight_bits]), expected)
    assert torch.equal(eight_bits, torch.stack([pixels(image) for image in images]))  # they stay what they were

"""Transforms against open_clip's own, and against crops made by hand."""

from __future__ import annotations

import pickle

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from vlmprompt.data.preprocess import PreprocessConfig, build_transform
from vlmprompt.errors import InputError

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(50, 91), (91, 50), (32, 32), (20, 33), (33, 31), (200, 7)])
@pytest.mark.parametrize("sides", [32, (24, 40), (40, 24)])
def test_test_transform_is_open_clips(
    resize_mode: str, interpolation: str, size: tuple[int, int], sides: int | tuple[int, int]
) -> None:
    ours = build_transform(PreprocessConfig(sides, MEAN, STD, interpolation, resize_mode), train=False)
    if resize_mode == "shortest" and sides != 32 and interpolation == "bilinear":
        pytest.skip("open_clip resizes bicubically here")
    theirs = open_clip.image_transform(
        sides, is_train=False, mean=MEAN, std=STD, resize_mode=resize_mode, interpolation=interpolation
    )
    for mode in ("RGB", "L", "RGBA", "P", "CMYK"):
        image = picture(*size, mode)
        assert torch.equal(ours(image), theirs(image)), mode


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(3, 600), (600, 3), (1, 65), (2, 1001), (5, 7001), (40, 2700), (2700, 40)])
def test_a_strip_is_not_resized_whole(interpolation: str, size: tuple[int, int]) -> None:
    """The same values; to within 1 of 255 where the picture is made smaller, since Pillow rounds between its passes."""
    ours = build_transform(PreprocessConfig(16, (0, 0, 0), (1, 1, 1), interpolation), train=False)
    theirs = open_clip.image_transform(16, is_train=False, mean=(0, 0, 0), std=(1, 1, 1), interpolation=interpolation)
    image = picture(*size)
    apart = (255 * (ours(image) - theirs(image))).abs()
    assert apart.max() < (0.01 if min(size) <= 16 else 1.01)


@pytest.mark.parametrize("size", [(3, 600), (600, 3), (2, 1001), (40, 4000)])
def test_a_strip_is_not_resized_whole_for_a_rectangle(size: tuple[int, int]) -> None:
    ours = build_transform(PreprocessConfig((16, 24), (0, 0, 0), (1, 1, 1)), train=False)
    theirs = open_clip.image_transform((16, 24), is_train=False, mean=(0, 0, 0), std=(1, 1, 1))
    image = picture(*size)
    assert (255 * (ours(image) - theirs(image))).abs().max() < 8  # whole pixels are kept, resampled by a hair's breadth


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [(2, 6_000), (1, 1_000_000), (1_000_000, 1)])
@pytest.mark.parametrize("sides", [224, (224, 96)])
def test_no_strip_is_too_long(resize_mode: str, size: tuple[int, int], sides: int | tuple[int, int]) -> None:
    """A strip of 1 x 1,000,000 would be 224 x 224,000,000 pixels: 150 GB."""
    image = Image.new("RGB", size, (51, 102, 204))
    config = PreprocessConfig(sides, (0, 0, 0), (1, 1, 1), resize_mode=resize_mode)
    made = build_transform(config, train=False)(image)
    expected = torch.tensor([0.2, 0.4, 0.8])
    assert made.shape == (3, *config.sides)
    assert torch.allclose(made.amax(dim=(1, 2)), expected)
    if resize_mode != "longest":
        assert torch.allclose(made.mean(dim=(1, 2)), expected)
    train = build_transform(config, train=True)(image)
    assert torch.allclose(train.mean(dim=(1, 2)), expected)


def test_training_transform_by_hand() -> None:
    """Same random numbers, but crop, resize, flip and normalisation spelt out."""
    transform = build_transform(PreprocessConfig(24, MEAN, STD), train=True)
    image = picture(60, 40)
    flips = 0
    for seed in range(20):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            made = transform(image)
            torch.manual_seed(seed)
            top, left, height, width = RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])
            flip = torch.rand(1).item() < 0.5
        box = (left, top, left + width, top + height)
        pixels = np.asarray(image.crop(box).resize((24, 24), Image.Resampling.BICUBIC), dtype=np.float32) / 255
        pixels = pixels[:, ::-1] if flip else pixels
        expected = (pixels - np.float32(MEAN)) / np.float32(STD)
        assert np.allclose(made.permute(1, 2, 0).numpy(), expected, atol=1e-6)
        flips += flip
    assert 0 < flips < 20


def test_transforms_travel_to_spawned_workers() -> None:
    for mode in ("shortest", "longest"):
        transform = build_transform(PreprocessConfig(8, MEAN, STD, resize_mode=mode), train=False)
        image = picture(12, 9)
        assert torch.equal(pickle.loads(pickle.dumps(transform))(image), transform(image))


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(InputError, match="interpolation 'lanczos'") as error:
        build_transform(PreprocessConfig(8, MEAN, STD, interpolation="lanczos"), train=True)
    assert "bicubic" in (error.value.hint or "")
    with pytest.raises(InputError, match="resize mode 'tile'"):
        build_transform(PreprocessConfig(8, MEAN, STD, resize_mode="tile"), train=False)

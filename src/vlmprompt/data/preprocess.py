"""CLIP's image transforms, from a backbone's own preprocessing settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from PIL.Image import Image
from torch import Tensor
from torchvision.transforms import (
    CenterCrop,
    Compose,
    InterpolationMode,
    Normalize,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    ToTensor,
)
from torchvision.transforms import functional as F

from vlmprompt.errors import InputError

Transform = Callable[[Image], Tensor]

_INTERPOLATIONS = {"bicubic": InterpolationMode.BICUBIC, "bilinear": InterpolationMode.BILINEAR}


@dataclass(frozen=True)
class PreprocessConfig:
    """How a backbone wants its images.

    Attributes:
        size: side of the square input in pixels.
        mean: per channel, of values in [0, 1].
        std: likewise.
        interpolation: "bicubic" or "bilinear".
        resize_mode: for tests; "shortest": short side to `size`, centre crop; "longest": long side to
            `size`, the rest black; "squash": both sides to `size`.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"


def build_transform(config: PreprocessConfig, *, train: bool) -> Transform:
    """The transform from an image to (3,size,size).

    The test transform equals open_clip's `image_transform(is_train=False)`. The training transform is CoOp's:
    a random crop of 8 to 100 % of the area (sides 3:4 to 4:3) resized to `size`, and a horizontal flip half
    of the time; it draws from torch's global generator, which `ImageLoader` seeds per image and restores.

    Raises:
        InputError: interpolation or resize mode are none of those above.
    """
    mode = _choice("interpolation", config.interpolation, _INTERPOLATIONS)
    if train:
        crop = RandomResizedCrop(config.size, scale=(0.08, 1.0), interpolation=mode)
        steps = [crop, RandomHorizontalFlip()]
    else:
        resize: dict[str, list[Any]] = {
            "shortest": [Resize(config.size, interpolation=mode), CenterCrop(config.size)],
            "longest": [partial(_fit, size=config.size, interpolation=mode), CenterCrop(config.size)],
            "squash": [Resize((config.size, config.size), interpolation=mode)],
        }
        steps = _choice("resize mode", config.resize_mode, resize)
    transform: Transform = Compose([*steps, _rgb, ToTensor(), Normalize(config.mean, config.std)])
    return transform


def _choice(what: str, name: str, known: dict[str, Any]) -> Any:
    if name not in known:
        raise InputError(f"the backbone asks for {what} {name!r}", hint=f"supported: {', '.join(known)}")
    return known[name]


def _fit(image: Image, *, size: int, interpolation: InterpolationMode) -> Image:
    """Resize the long side to `size`; CenterCrop then pads the short one."""
    ratio = max(image.size) / size
    resized: Image = F.resize(image, [round(image.height / ratio), round(image.width / ratio)], interpolation)
    return resized


def _rgb(image: Image) -> Image:
    return image.convert("RGB")

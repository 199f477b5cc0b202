"""CLIP's image transforms, from a backbone's own preprocessing settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from PIL.Image import Image, Resampling
from torch import Tensor

from vlmprompt.data.crops import Normalise, RandomCrop, covering, middle, pixels, resized
from vlmprompt.errors import InputError

Transform = Callable[[Image], Tensor]

STRIP = 64  # times as long as wide, from which a picture is not resized whole
_INTERPOLATIONS = {"bicubic": Resampling.BICUBIC, "bilinear": Resampling.BILINEAR}


@dataclass(frozen=True)
class PreprocessConfig:
    """How a backbone wants its images.

    Attributes:
        size: side of a square input in pixels, or height and width.
        mean: per channel, of values in [0, 1].
        std: likewise.
        interpolation: "bicubic" or "bilinear".
        resize_mode: for tests; "shortest": as small as covers `size`, centre crop; "longest": as large as
            fits into `size`, the rest black; "squash": both sides to `size`.
    """

    size: int | tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size


@dataclass(frozen=True)
class TowerTransform:
    """From an image to what a tower reads, (3,H,W), in two parts: 8-bit pixels are a quarter of the size on their way.

    Attributes:
        config: what it was made of, by which transforms are told apart.
        random: it draws random numbers.
        steps: from image to image, one after the other.
    """

    config: PreprocessConfig
    random: bool
    steps: tuple[Callable[[Image], Image], ...] = field(compare=False, repr=False)

    def __call__(self, image: Image) -> Tensor:
        return self.normalise(self.pixels(image))

    def pixels(self, image: Image) -> Tensor:
        """(3,H,W), uint8."""
        for step in self.steps:
            image = step(image)
        return pixels(image if image.mode == "RGB" else image.convert("RGB"))  # of its own mode Pillow makes a copy

    @property
    def normalise(self) -> Normalise:
        """From pixels, of one image or of many, to the tower's input."""
        return Normalise(self.config.mean, self.config.std)


def build_transform(config: PreprocessConfig, *, train: bool) -> TowerTransform:
    """The transform from an image to (3,height,width).

    The test transform equals open_clip's `image_transform(is_train=False)`; of strips, see `_middle_of_strip`.
    (open_clip resizes bicubically where an input is not square and "shortest" is asked for, whatever the settings say;
    here they count.) The training transform is CoOp's: a random crop of 8 to 100 % of the area (sides 3:4 to 4:3)
    resized to `size`, and a horizontal flip half of the time; it draws from torch's global generator, which
    `ImageLoader` seeds per image and restores.

    Raises:
        InputError: interpolation or resize mode are none of those above.
    """
    mode, sides = _choice("interpolation", config.interpolation, _INTERPOLATIONS), config.sides
    steps: list[Callable[[Image], Image]]
    if train:
        steps = [RandomCrop(sides, mode)]
    else:
        square = sides[0] == sides[1]
        resize: dict[str, list[Any]] = {
            "shortest": [partial(_middle, size=sides[0], filter_=mode)]
            if square
            else [
                partial(_middle_of_rectangle, sides=sides),
                partial(_scaled, sides=sides, choose=min, filter_=mode),
                partial(middle, sides=sides),
            ],
            "longest": [partial(_scaled, sides=sides, choose=max, filter_=mode), partial(middle, sides=sides)],
            "squash": [partial(resized, sides=sides, filter_=mode)],
        }
        steps = _choice("resize mode", config.resize_mode, resize)
    return TowerTransform(config, train, tuple(steps))


def _choice(what: str, name: str, known: dict[str, Any]) -> Any:
    if name not in known:
        raise InputError(f"the backbone asks for {what} {name!r}", hint=f"supported: {', '.join(known)}")
    return known[name]


def _middle(image: Image, *, size: int, filter_: Resampling) -> Image:
    """Resize the short side to `size`, and crop the middle square."""
    if max(image.size) > STRIP * min(image.size):
        return _middle_of_strip(image, size, filter_)
    return middle(covering(image, size, filter_), (size, size))


def _middle_of_strip(image: Image, size: int, filter_: Resampling) -> Image:
    """As `_middle`, but only the square is made: whole, a strip of 2 x 6,000 pixels would be 224 x 672,000.

    The values are those of the whole; to within 1 of 255 where the picture is made smaller, because Pillow rounds
    between its passes and chooses their order.
    """
    short, long = sorted(image.size)
    whole = size * long // short  # the long side, as `covering` rounds it
    start = round((whole - size) / 2) * long / whole
    end = start + size * long / whole
    margin = 3 * max(1, math.ceil(short / size))  # bicubic interpolation reaches 2 pixels of the coarser picture
    low, high = int(start) - margin, math.ceil(end) + margin
    tall = image.height == long
    part = image.crop((0, low, short, high) if tall else (low, 0, high, short))
    if tall and short <= size:
        part = part.resize((size, part.height), filter_)  # Pillow's order
    box = (0, start - low, part.width, end - low) if tall else (start - low, 0, end - low, part.height)
    return part.resize((size, size), filter_, box=box)


def _middle_of_rectangle(image: Image, *, sides: tuple[int, int]) -> Image:
    """Of a strip, no more than an input of these sides will show; see `_middle_of_strip`. Of others, the whole."""
    own = (image.height, image.width)
    ratios = [one / wanted for one, wanted in zip(own, sides, strict=True)]
    if max(ratios) <= STRIP * min(ratios):
        return image
    kept = []
    for one, wanted in zip(own, sides, strict=True):
        shown = math.ceil(wanted * min(ratios)) + 6 * max(1, math.ceil(min(ratios)))
        kept.append(min(one, shown + (one - shown) % 2))  # as much from either end
    top, left = ((one - part) // 2 for one, part in zip(own, kept, strict=True))
    return image.crop((left, top, left + kept[1], top + kept[0]))


def _scaled(image: Image, *, sides: tuple[int, int], choose: Callable[..., float], filter_: Resampling) -> Image:
    """Resize so that the picture just fits into an input (`max` of the ratios) or just covers it (`min`).

    The middle is then taken, which pads or cuts the other side.
    """
    ratio = choose(own / wanted for own, wanted in zip((image.height, image.width), sides, strict=True))
    height, width = (max(1, round(side / ratio)) for side in (image.height, image.width))
    return resized(image, (height, width), filter_)

"""Grey pictures of more than 8 bits, or of floating-point numbers: which level is white, and their 8-bit levels.

Cameras and scanners put 10, 12 or 14 bits into 16, and few files say so. What a file says counts: the tags of a TIFF,
the maximum of a PGM, the precision of a JPEG 2000. Where it says nothing, white is the highest level of the fewest of
8, 10, 12, 14 and 16 bits that hold the picture's brightest one. This is a rule by the file alone: a picture is the same
in every split, order and data set.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

DEPTHS = (8, 10, 12, 14, 16)
GUESSED = "white guessed"  # key in `Image.info` of a picture whose range nothing says, and is less than 16 bits
WARNING = (
    "some grey pictures do not say what their brightest level is: each is scaled by the fewest of 8, 10, 12, 14 and 16 "
    "bits that hold its own; convert them to 8 bits to scale them otherwise"
)
_BITS_PER_SAMPLE, _PHOTOMETRIC, _MAX_SAMPLE, _SAMPLE_FORMAT = 258, 262, 281, 339  # tags of TIFF
_WHITE_IS_ZERO, _SIGNED = 0, 2


def is_deep(image: Image.Image) -> bool:
    """Whether it has one channel that is not 8 bits, or signed ones, so that `eight_bits` is to be asked."""
    signed = image.mode == "L" and _tag(image, _SAMPLE_FORMAT) == _SIGNED
    return image.mode == "F" or image.mode.startswith("I") or signed


def eight_bits(image: Image.Image) -> Image.Image:
    """A grey picture in RGB, its levels scaled to 0 to 255.

    Level v of integers becomes floor(256 v / (white + 1)), which for white = 2^b - 1 are the 8 upper of b bits.
    Floating-point numbers up to 1 have white at 1; others are rounded to integers first.

    Raises:
        ValueError: levels without a defined range: negative, above 16 bits, infinite or not a number.
    """
    levels = _integers(image)
    high, stated = int(levels.max()), _stated_white(image, levels)
    white = _smallest(high) if stated is None or high > stated else stated
    grey = (levels * 256 // (white + 1)).astype(np.uint8)
    if image.mode.startswith("I;16") and _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow inverts 8 bits only
        grey = 255 - grey
    made = Image.fromarray(grey).convert("RGB")
    if image.mode.startswith("I") and white != stated and white < 2 ** DEPTHS[-1] - 1:
        made.info[GUESSED] = True
    return made


def _integers(image: Image.Image) -> np.ndarray:
    """The levels, floating-point ones rounded; of those up to 1, white is 255."""
    levels = np.asarray(image)
    if image.mode == "L":  # signed 8 bits, which Pillow shows as unsigned
        levels = levels.view(np.int8)
    if levels.dtype.kind == "f":
        levels = np.floor(levels * (255 if levels.max() <= 1 else 1) + 0.5)
    low, high, most = levels.min(), levels.max(), 2 ** DEPTHS[-1] - 1
    if not 0 <= low <= high <= most:  # also of NaN
        message = f"its levels go from {low:g} to {high:g}, of which 0 to {most} have a defined range"
        raise ValueError(f"{message}; convert it to 8 bits")
    return levels.astype(np.uint32)


def require_full_colours(image: Image.Image) -> None:
    """Refuse colours of 16 bits that use 14 or fewer; asked before the pixels are loaded, it loads them.

    Of 16-bit colours Pillow gives the upper 8 bits alone: such a picture would be dark, and what is missing is lost.

    Raises:
        ValueError: it is such a picture.
    """
    if image.format not in ("PNG", "TIFF") or len(image.getbands()) < 2 or "16" not in _raw_mode(image):
        return
    colours = [extrema for band, extrema in zip(image.getbands(), _extrema(image), strict=True) if band != "A"]
    bits = 8 + max(high for _, high in colours).bit_length()
    if bits <= 14:
        raise ValueError(f"its colours use {bits} of 16 bits or fewer, of which only 8 are read; convert it to 8 bits")


def _smallest(high: int) -> int:
    """White by the fewest bits that hold a level."""
    return next(2**bits - 1 for bits in DEPTHS if high < 2**bits)


def _stated_white(image: Image.Image, levels: np.ndarray) -> int | None:
    """White as the file says it. From the range in the header of a PGM or JPEG 2000 file Pillow scales to 16 bits."""
    if image.format == "PPM" and image.mode == "I":
        return 2**16 - 1
    if image.format == "JPEG2000":  # what has been shifted from 14 bits or fewer has no lower bits
        return None if np.bitwise_or.reduce(levels, axis=None) & 3 else 2**16 - 1
    bits, white = _tag(image, _BITS_PER_SAMPLE), _tag(image, _MAX_SAMPLE)
    if white:
        return int(white)
    return 2 ** int(bits) - 1 if bits and 8 < bits < 16 else None


def _tag(image: Image.Image, number: int) -> Any:
    """A tag of a TIFF, the first value where it has several; None without."""
    value = getattr(image, "tag_v2", {}).get(number)
    return value[0] if isinstance(value, tuple) else value


def _raw_mode(image: Image.Image) -> str:
    """How the file has its pixels, in Pillow's words, such as "RGB;16B"."""
    tiles = getattr(image, "tile", ())
    return str(tiles[0][3]) if tiles else ""


def _extrema(image: Image.Image) -> tuple[tuple[int, int], ...]:
    return image.getextrema()  # type: ignore[return-value]  # of images with several bands

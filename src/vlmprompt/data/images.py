"""Decoding: from a record to an RGB image, or to an error that names it."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from vlmprompt.data.records import Record
from vlmprompt.errors import InputError


def read_image(record: Record) -> Image.Image:
    """The image of a record in RGB.

    Raises:
        InputError: the image is missing, truncated, none at all, or of a kind without a defined range.
    """
    source = record.image
    return decode(source, str(source)) if isinstance(source, Path) else source.load()


def decode(file: Path | BinaryIO, name: str) -> Image.Image:
    """An image file in RGB.

    Colours are converted before any resizing, as in CoOp's code. Transparency is dropped, not blended, and
    orientation tags are not applied: as CLIP and CoOp saw their images. 16-bit grey is scaled to 8 bits.

    Args:
        name: what to call it in errors.

    Raises:
        InputError: see `read_image`.
    """
    try:
        with Image.open(file) as image:
            return _rgb(image)
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise InputError(f"cannot read image {name}: {_reason(error)}", hint="replace or remove it") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined range; convert it to 8 bits")
    if image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")  # the same pixels, without Pillow's warning
    return image.convert("RGB")


def _eight_bits(grey: np.ndarray) -> np.ndarray:
    """16-bit grey levels by their upper byte; Pillow itself would clip all above 255 to white."""
    if grey.size and not 0 <= grey.min() <= grey.max() < 2**16:
        raise ValueError("32-bit pixels have no defined range; convert it to 8 bits")
    return (grey >> 8).astype(np.uint8)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is no image in a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__

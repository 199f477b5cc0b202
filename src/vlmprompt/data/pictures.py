"""Pictures as people have them in Python: paths, PIL images, arrays, tensors; one, or any number.

Shapes: H x W pixels, C channels, V views; h x w pixels of a tower's input.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vlmprompt.data.images import as_rgb, read_image
from vlmprompt.data.levels import GUESSED, WARNING
from vlmprompt.data.preprocess import Transform
from vlmprompt.data.records import Record
from vlmprompt.data.views import Views, pixels_id
from vlmprompt.errors import InputError
from vlmprompt.regular import named_path

CHANNELS = (1, 3, 4)
CONTENT = (bytes, bytearray, memoryview, io.IOBase)  # of a file, encoded
NO_PICTURES = (*CONTENT, Mapping)  # although they can be iterated over
KINDS = "a path, a PIL image, an array (H,W,3) or tensor (3,H,W) of 8-bit pixels, or what backbone.transform gives"


def pictures(given: Any) -> Iterator[Any]:
    """The pictures in what somebody has given, one after the other: a single one counts as one.

    Arrays and tensors of four dimensions are batches; whatever else can be iterated over holds pictures.

    Raises:
        InputError: it is neither a picture nor holds any.
    """
    if _is_one(given):
        return iter((given,))
    if isinstance(given, Iterable) and not isinstance(given, NO_PICTURES):
        return iter(given)
    raise _no_picture(given, f"give {KINDS}; or a list of such")


def picture_tensor(picture: Any, transform: Transform, sides: tuple[int, int], *, upright: bool) -> Tensor:
    """One picture as a tower reads it: (3,h,w).

    Args:
        transform: the tower's, for a picture in RGB.
        sides: h and w.
        upright: see `images.decode`; of files and PIL images.

    Raises:
        InputError: it cannot be read, or is none of `KINDS`.
    """
    if isinstance(picture, Tensor) and picture.is_floating_point():  # of whatever precision
        if picture.shape != (3, *sides):
            shape, wanted = tuple(picture.shape), (3, *sides)
            raise InputError(
                f"a tensor of floats is taken for what backbone.transform(train=False) gives, {wanted}; "
                f"this one is {shape}",
                hint="apply that transform, or give pixels: 8-bit (torch.uint8), 0 to 255",
            )
        return picture.float()
    return transform(_doubted(_image(picture, upright)))


def picture_views(picture: Any, views: Views, *, upright: bool) -> Tensor:
    """Several views of one picture, as a tower reads them: (V,3,h,w).

    They hang on the id of a record, and on the pixels of whatever else shows a picture.

    Args:
        upright: see `picture_tensor`.

    Raises:
        InputError: it cannot be read, is none of `KINDS`, or has been transformed, so that it shows one view.
    """
    if isinstance(picture, Tensor) and picture.is_floating_point():
        raise InputError(
            f"a transformed picture is one view, and {views.count} views are made of each",
            hint="give the picture itself: a path, a PIL image, or 8-bit pixels",
        )
    image = _doubted(_image(picture, upright))
    return views(image, picture.id if isinstance(picture, Record) else pixels_id(image))


def _doubted(image: Image.Image) -> Image.Image:
    """The image; what is doubtful of its colours is said."""
    if GUESSED in image.info:
        warnings.warn(WARNING, stacklevel=5)
    return image


def _is_one(given: Any) -> bool:
    if isinstance(given, np.ndarray | Tensor):
        return given.ndim < 4
    return isinstance(given, str | Path | Image.Image | Record) or hasattr(given, "load") or hasattr(given, "encoded")


def _image(picture: Any, upright: bool) -> Image.Image:
    """A picture in RGB."""
    if isinstance(picture, str | Path):
        path = named_path(picture)
        if path.is_dir():
            raise InputError(f"{path} is a folder, not a picture", hint="give its files: sorted(folder.glob('*.jpg'))")
        return read_image(Record(str(path), 0, path, upright))
    if isinstance(picture, Record):
        return read_image(picture)
    if isinstance(picture, Image.Image):
        return as_rgb(picture, getattr(picture, "filename", "") or "in memory", upright=upright)
    if isinstance(picture, np.ndarray):
        return as_rgb(_from_pixels(picture), "in memory")
    if isinstance(picture, Tensor):
        if picture.dtype != torch.uint8 or picture.ndim != 3 or len(picture) not in CHANNELS:
            raise _no_pixels(picture)
        return as_rgb(_from_pixels(picture.detach().cpu().movedim(0, -1).numpy()), "in memory")
    if hasattr(picture, "load") or hasattr(picture, "encoded"):
        return read_image(Record("in memory", 0, picture, upright))
    raise _no_picture(picture, f"give {KINDS}")


def _no_picture(given: Any, hint: str) -> InputError:
    if isinstance(given, CONTENT):
        hint = "open the content of a file first: PIL.Image.open(file), or PIL.Image.open(io.BytesIO(content))"
    return InputError(f"a {type(given).__name__} is no picture", hint=hint)


def _from_pixels(pixels: np.ndarray[Any, Any]) -> Image.Image:
    """An image of an array (H,W) of any grey levels, or (H,W,C) of 8 bits."""
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    grey = pixels.ndim == 2 and pixels.dtype != bool
    if not grey and (pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] not in CHANNELS):
        raise _no_pixels(pixels)
    try:
        return Image.fromarray(np.ascontiguousarray(pixels))
    except TypeError as error:  # of a type that Pillow has no mode for
        raise _no_pixels(pixels) from error


def _no_pixels(pixels: np.ndarray[Any, Any] | Tensor) -> InputError:
    kind, order = ("an array", "(H,W,3)") if isinstance(pixels, np.ndarray) else ("a tensor", "(3,H,W)")
    dtype = str(pixels.dtype).removeprefix("torch.")
    return InputError(
        f"{kind} {tuple(pixels.shape)} of {dtype} is no picture: {order} of uint8 is",
        hint="of floats from 0 to 1 pixels are (255 * x).round() as uint8; channels stand "
        + ("last" if isinstance(pixels, np.ndarray) else "first"),
    )

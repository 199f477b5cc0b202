"""Decoding: from a record to an RGB image, or to an error that names it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from vlmprompt.data.formats import FORMATS, lacking, readable
from vlmprompt.data.levels import eight_bits, is_deep, require_full_colours
from vlmprompt.data.records import Record
from vlmprompt.errors import InputError
from vlmprompt.regular import read_at_once, regular_size

VERSION = 2  # of the pixels that are made of a file; part of the key of cached features
MOST_PIXELS = 178_956_970  # 512 MiB in RGB: where Pillow stops by itself, too
AT_ONCE = 2**26  # bytes; of a larger file Pillow reads only what it needs
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Where Pillow looks for it. A TIFF has tags of its own, by which Pillow turns it while loading.
_TELL_ORIENTATION = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
_TRANSPARENT = ("LA", "PA", "RGBA")

Image.MAX_IMAGE_PIXELS = MOST_PIXELS  # above, Pillow warns, without the file's name; by itself it begins at half of it


def read_image(record: Record) -> Image.Image:
    """The image of a record in RGB.

    Raises:
        InputError: the image is missing, truncated, none at all, or of a kind without a defined range.
    """
    source = record.image
    if isinstance(source, Path):
        return decode(source, str(source), upright=record.upright)
    if hasattr(source, "encoded"):
        return decode(*source.encoded(), upright=record.upright)
    return source.load()


def decode(file: Path | BinaryIO, name: str, *, upright: bool = False) -> Image.Image:
    """An image file in RGB.

    Colours are converted before any resizing, as in CoOp's code. Grey levels of more than 8 bits are scaled (see
    `levels`).

    Args:
        name: what to call it in errors.
        upright: as a viewer shows it: turned as its EXIF orientation says, and what is transparent over white. Else
            as it is stored, which is how CLIP and CoOp saw their images: not turned, transparency dropped.

    Raises:
        InputError: see `read_image`.
    """
    try:
        opened = _opened(file) if isinstance(file, Path) else file
        with Image.open(opened, formats=readable()) as image:
            return _rgb(image, upright)
    except UnidentifiedImageError as error:
        raise _unidentified(file, name) from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise _unreadable(name, error) from error


def as_rgb(image: Image.Image, name: str, *, upright: bool = False) -> Image.Image:
    """An opened image in RGB; see `decode`."""
    try:
        return _rgb(image, upright)
    except Exception as error:
        raise _unreadable(name, error) from error


def _opened(file: Path) -> Path | BinaryIO:
    """What Pillow is to read: a file that is not huge comes in one call, not in pieces through a buffer."""
    size = regular_size(file)
    if size > AT_ONCE:
        return file
    return io.BytesIO(read_at_once(file, size))


def _rgb(image: Image.Image, upright: bool) -> Image.Image:
    if not 0 < image.width * image.height <= MOST_PIXELS:
        raise ValueError(f"it has {image.width} x {image.height} pixels; read are 1 to {MOST_PIXELS:,} in all")
    require_full_colours(image)
    image.load()  # some formats tell their EXIF data behind the pixels
    turn = _TURNS.get(_orientation(image)) if upright else None
    rgb = _converted(image, over_white=upright)
    return rgb if turn is None else rgb.transpose(turn)


def _orientation(image: Image.Image) -> int:
    if not any(key in image.info for key in _TELL_ORIENTATION):
        return 1  # known at a twentieth of the cost
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF data: viewers show such a picture as it is stored
        return 1


def _converted(image: Image.Image, *, over_white: bool) -> Image.Image:
    if is_deep(image):
        return eight_bits(image)
    if image.mode == "LAB":
        return _from_lab(image)
    if image.mode in ("La", "RGBa"):  # premultiplied, of which Pillow makes no RGB
        image = image.convert(image.mode.upper())
    if "transparency" not in image.info and image.mode not in _TRANSPARENT:
        return image if image.mode == "RGB" else image.convert("RGB")  # of its own mode Pillow would make a copy
    if over_white:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), layer).convert("RGB")
    # A palette with transparency: the same pixels, without Pillow's warning.
    return image.convert("RGBA" if image.mode == "P" else image.mode).convert("RGB")


def _from_lab(image: Image.Image) -> Image.Image:
    """CIELAB (D50) as sRGB."""
    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    made = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
    assert made is not None  # it is None only where the image itself is changed
    return made


def _unreadable(name: str, error: Exception) -> InputError:
    return InputError(f"cannot read image {name}: {_reason(error)}", hint="replace or remove it")


def _unidentified(file: Path | BinaryIO, name: str) -> InputError:
    found = lacking(name, _head(file))
    if found is None:
        hint = f"replace or remove it; read are {', '.join(FORMATS)}"
        return InputError(f"cannot read image {name}: it is no image in a known format", hint=hint)
    format_name, command = found
    return InputError(f"cannot read image {name}: nothing installed here reads {format_name}", hint=command)


def _head(file: Path | BinaryIO) -> bytes:
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return opened.read(12)
    file.seek(0)
    return file.read(12)


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory for its pixels"
    if isinstance(error, Image.DecompressionBombError):  # it goes on with twice the bound, as Pillow's own
        return f"{str(error).partition(' exceeds')[0]}; read are 1 to {MOST_PIXELS:,} in all"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or type(error).__name__).splitlines()[0]

"""Pictures made small enough to stand in a page."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from vlmprompt.data.images import decode
from vlmprompt.errors import InputError
from vlmprompt.regular import regular

SIDE = 96  # pixels of a thumbnail's longer side
WIDE = 1000  # pixels of a drawn picture
AS_IT_IS = 120_000  # bytes of a file that is not made smaller
QUALITY = 85
PNG = b"\x89PNG\r\n\x1a\n"


def thumbnail(image: Image.Image) -> tuple[bytes, int, int]:
    """A JPEG of an RGB image with its width and height, proportions kept; nothing of the file's own notes."""
    size = _fitted(image.size, SIDE)
    return _jpeg(_resized(image, size)), *size


def drawn(file: Path) -> tuple[bytes, str, int, int]:
    """A drawn picture: bytes, kind, width and height; large ones are made smaller.

    An SVG is taken as it is, and its size left to who shows it (0 and 0): as the source of an image it can run nothing
    and load nothing.

    Raises:
        InputError: it cannot be read, or is an SVG of more than `AS_IT_IS` bytes.
    """
    try:
        content = regular(file).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read picture {file}: {error.strerror}", hint="draw it again") from error
    if file.suffix.lower() == ".svg":
        if len(content) > AS_IT_IS:
            raise InputError(f"picture {file} is too large for the page: {len(content):,} bytes", hint="draw it as PNG")
        return content, "svg+xml", 0, 0
    image = decode(io.BytesIO(content), str(file), upright=True)
    size = _fitted(image.size, WIDE)
    if len(content) <= AS_IT_IS and image.size == size and content.startswith(PNG):
        return content, "png", *size
    return _jpeg(_resized(image, size)), "jpeg", *size


def _fitted(size: tuple[int, int], most: int) -> tuple[int, int]:
    """A size of at most so many pixels a side, proportions kept, never larger than it was; of a strip, a line."""
    scale = min(1.0, most / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _jpeg(image: Image.Image) -> bytes:
    clean = image.copy()
    clean.info = {}
    content = io.BytesIO()
    clean.save(content, format="JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return content.getvalue()

"""The formats of image files that are read, and the suffixes that they go by. Nothing else is opened.

Pillow knows many more, among them PostScript, for which it starts a program of its own. What a file is called does not
matter to Pillow, so the formats are named to it, and never left to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from PIL import Image, features

# Pillow's name of a format -> suffixes. The commonest come first: they are tried in this order.
FORMATS: Mapping[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TIFF": (".tif", ".tiff"),
    "JPEG2000": (".jp2",),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif"),
}
IMAGE_SUFFIXES = tuple(sorted(suffix for suffixes in FORMATS.values() for suffix in suffixes))
# Formats that an installation may lack -> Pillow's name of the codec, and what brings it.
_CODECS = {"WEBP": "webp", "JPEG2000": "jpg_2000", "AVIF": "avif"}
_HEIF = "pip install 'vlmprompt[heic]'"
_PILLOW = "pip install --upgrade pillow"
# Formats that begin with the size of a box and "ftyp": the brand, which comes then, tells which.
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF"} | dict.fromkeys((b"heic", b"heix", b"hevc", b"heim", b"mif1"), "HEIF")
OPTIONAL_SUFFIXES = tuple(suffix for name in (*_CODECS, "HEIF") for suffix in FORMATS[name])


@cache
def readable() -> tuple[str, ...]:
    """The formats that this installation reads, as Pillow calls them."""
    Image.init()
    _register_heif()
    return tuple(name for name in FORMATS if name in Image.OPEN and _has_codec(name))


def lacking(name: str, head: bytes = b"") -> tuple[str, str] | None:
    """Whether a file is of a format that is read in general, but not by this installation.

    Args:
        name: of the file.
        head: its first 12 bytes; telephones write HEIF under any name.

    Returns:
        The format, and the command that installs what reads it; None if that is not what is wrong.
    """
    found = _BRANDS.get(head[8:12]) if head[4:8] == b"ftyp" else None
    found = found or next((key for key, suffixes in FORMATS.items() if name.lower().endswith(suffixes)), None)
    if found is None or found in readable():
        return None
    return found, _HEIF if found == "HEIF" else _PILLOW


def _has_codec(name: str) -> bool:
    return name not in _CODECS or bool(features.check(_CODECS[name]))


def _register_heif() -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:  # the extra is not installed
        return
    register_heif_opener()

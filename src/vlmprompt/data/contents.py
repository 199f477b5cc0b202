"""What images can be told apart by without decoding them: size, time and place on disk, and bytes where need be."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from vlmprompt.errors import InputError
from vlmprompt.regular import read_at_once

if TYPE_CHECKING:
    from vlmprompt.data.records import EncodedSource, ImageSource, Record

    Image: TypeAlias = Path | ImageSource | EncodedSource


class Stamp(NamedTuple):
    """What a file system says of an image, in bytes and nanoseconds; `file` is equal for links to one file."""

    size: int
    mtime_ns: int
    file: tuple[int, int] | None = None


def stamp(image: Image) -> Stamp | None:
    """The stamp of an image; None where it has none: it is drawn, or not there.

    A source that is no file may have a method `stamp()` of its own; then it is an `EncodedSource`.
    """
    try:
        if not isinstance(image, Path):
            own = getattr(image, "stamp", None)
            return None if own is None else Stamp(*own())
        found = os.stat(image)  # noqa: PTH116 (Path.stat takes longer; there may be a million)
    except (OSError, InputError):
        return None  # decoding the image says what is wrong
    return Stamp(found.st_size, found.st_mtime_ns, (found.st_dev, found.st_ino))


def content_digest(image: Image, seen: Stamp) -> bytes | None:
    """A digest of the encoded image as it was when `seen`; None if it cannot be read, which decoding reports."""
    if isinstance(image, Path):
        return _file_digest(str(image), seen)
    try:
        file, _ = image.encoded()  # type: ignore[union-attr]
        return _digest(file.read_bytes() if isinstance(file, Path) else file.read())
    except (OSError, InputError):
        return None


# Runs of one sweep compare the same files over and over; a file with another stamp is another entry.
@lru_cache(maxsize=2**17)
def _file_digest(path: str, seen: Stamp) -> bytes | None:
    try:
        return _digest(read_at_once(path, seen.size))
    except OSError:
        return None


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def files_digest(records: Sequence[Record], *, times: bool = True, contents: bool = False) -> str:
    """SHA-256 over ids, labels and what the images are known by, in order.

    Args:
        times: sizes and modification times; off: sizes alone, which survive a copy to another machine.
        contents: the bytes of every image, in place of both.
    """

    def known(record: Record) -> object:
        seen = stamp(record.image)
        if seen is None:
            return None
        if contents:
            digest = content_digest(record.image, seen)
            return None if digest is None else digest.hex()
        return (seen.size, seen.mtime_ns) if times else seen.size

    rows = [(record.id, record.label, known(record)) for record in records]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()

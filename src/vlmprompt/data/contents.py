"""What images can be told apart by without decoding them: size, time and place on disk, and bytes where need be."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Hashable, Sequence
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


def says_which(record: Record) -> bool:
    """Whether an image can be told from others of its id: it is a file, or its source has a `key` or a `stamp()`."""
    return isinstance(record.image, Path) or _key(record) is not None or hasattr(record.image, "stamp")


def image_key(record: Record) -> str:
    """A text that tells an image from all others, without reading it.

    A file is known by its path, size and time of change; a source by its type and its `key`, or else its `stamp()`; an
    image that has none of these by the record's id. A source that alters another image puts this into its own key.

    Raises:
        InputError: a file is not there, or a key is no text.
    """
    image, known = record.image, _key(record)
    by: object = [_type_of(image), known]
    if isinstance(image, Path):
        by = file_state(image)
    elif known is None:
        by = [_type_of(image), stamp(image)]
    return json.dumps([record.id, record.upright, by], ensure_ascii=False)


def images_key(records: Sequence[Record]) -> Hashable:
    """What tells images from others, in this process: equal where the same images stand in the same order.

    An image that does not say which it is stands for itself: two that Python takes for different ones are, and it is
    held in memory for as long as the key is.
    """
    rows = [(record.label, _known_here(record)) for record in records]
    digest = hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()
    return digest, tuple(_Itself(record.image) for record in records if not says_which(record))


def key_here(record: Record) -> Hashable:
    """What tells an image from all others, in this process; see `images_key`, which is of many."""
    return _known_here(record) if says_which(record) else _Itself(record.image)


def file_state(path: Path) -> tuple[str, int, int]:
    """Path, size and time of change of a file.

    Raises:
        InputError: it is not there.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise InputError(f"cannot read image {path}: {error.strerror}") from error
    return str(path.resolve()), found.st_size, found.st_mtime_ns


def _known_here(record: Record) -> Hashable:
    """As `image_key`, without following links, which takes long of many files; one that is not there has no stamp."""
    if not isinstance(record.image, Path):
        return image_key(record)
    seen = stamp(record.image)
    return record.id, record.upright, str(record.image), None if seen is None else (seen.size, seen.mtime_ns)


def _key(record: Record) -> str | None:
    """The `key` of an image that is no file, if it has one."""
    key = None if isinstance(record.image, Path) else getattr(record.image, "key", None)
    if key is not None and not isinstance(key, str):
        raise InputError(
            f"the key of image {record.id} is a {type(key).__name__}, not a text",
            hint=f"key of {type(record.image).__qualname__} says which image it is, such as 'dog.jpg, noise 0.1'",
        )
    return key


def _type_of(image: object) -> str:
    return f"{type(image).__module__}.{type(image).__qualname__}"


class _Itself:
    """An object as a key: by its own equality, or by its identity where it has no hash."""

    def __init__(self, image: object) -> None:
        self._image = image  # held, so that no other object gets its address
        try:
            self._hash, self._has_equality = hash(image), True
        except TypeError:
            self._hash, self._has_equality = id(image), False

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Itself):
            return NotImplemented
        if self._image is other._image:
            return True
        return self._has_equality and other._has_equality and bool(self._image == other._image)


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
    """SHA-256 over ids, labels and what the images are known by, in order; of images that are no files, their keys.

    Args:
        times: sizes and modification times; off: sizes alone, which survive a copy to another machine.
        contents: the bytes of every image, in place of both.
    """

    def known(record: Record) -> object:
        seen = stamp(record.image)
        if seen is None:
            own = _key(record)
            return None if own in (None, record.id) else [_type_of(record.image), own]  # an id need not be said twice
        if contents:
            digest = content_digest(record.image, seen)
            return None if digest is None else digest.hex()
        return (seen.size, seen.mtime_ns) if times else seen.size

    rows = [(record.id, record.label, known(record)) for record in records]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()

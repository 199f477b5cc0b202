"""What is in a shard: its samples, and where the parts of each lie.

A sample is what shares a key: the path up to the first full stop of the file's name. The rest, in lower case, says
what a part is: `a/0001.seg.png` is the part "seg.png" of the sample "a/0001". As in webdataset (1.0.2), hidden files,
files without a full stop and what is called `__...__` belong to no sample, and a key that comes again later begins
another sample. Differs from it: parts may lie apart (all images, then all labels), and what would be lost there
without a word is an error: links, what stands behind the end of an archive, an end that was cut off.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from vlmprompt.errors import InputError
from vlmprompt.regular import regular

_NOTE = re.compile(r"__[^/]*__(/.*)?")  # `__notes__`, `__notes__/x.txt`
_BLOCK = 512  # bytes: what tar files are made of
_SIGNATURES = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK": "zip"}


@dataclass(frozen=True)
class Part:
    """A file within a shard: its name, and the bytes that are its content."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class Sample:
    """What shares a key.

    Attributes:
        time: which of the samples of this key in the shard it is, from 1.
        parts: suffix, in lower case -> file.
    """

    shard: Path
    key: str
    time: int
    parts: dict[str, Part]

    @property
    def where(self) -> str:
        """What to call it in messages."""
        again = f" (the {self.time}. of this key)" if self.time > 1 else ""
        return f"sample {self.key}{again} of {self.shard}"


def read_part(shard: Path, part: Part) -> bytes:
    """The content of a file within a shard.

    Raises:
        InputError: the shard cannot be read, or is shorter than it was.
    """
    try:
        with regular(shard).open("rb") as file:
            file.seek(part.offset)
            content = file.read(part.size)
    except OSError as error:
        raise InputError(f"cannot read shard {shard}: {error.strerror}") from error
    if len(content) < part.size:
        raise InputError(f"shard {shard} ends within {part.name}", hint="copy it again")
    return content


def samples_of(shard: Path) -> list[Sample]:
    """The samples of a shard, in its order.

    Raises:
        InputError: it cannot be read, is compressed, cut off or longer than its archive; a file comes twice in
            a sample, or is a link.
    """
    try:
        with regular(shard).open("rb") as file:
            _check_kind(file, shard)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                found = [(split_name(member.name), _part(member, shard)) for member in tar if not member.isdir()]
                _check_end(file, tar.offset, shard)
    except (OSError, tarfile.TarError) as error:
        hint = "uncompressed tar files are read; copy it again if it is one"
        raise InputError(f"cannot read shard {shard}: {error}", hint=hint) from error
    return _grouped(shard, [(named, part) for named, part in found if named is not None and part is not None])


def split_name(name: str) -> tuple[str, str] | None:
    """Key and suffix of a file; None if it belongs to no sample."""
    folder, slash, file = name.rpartition("/")
    key, stop, suffix = file.partition(".")
    if not key or not stop or _NOTE.fullmatch(name):
        return None
    return folder + slash + key, suffix.lower()


def _part(member: tarfile.TarInfo, shard: Path) -> Part | None:
    """Where a member's content lies; None for devices and the like."""
    if member.issym() or member.islnk() or member.issparse():
        kind = "has holes" if member.issparse() else f"is a link to {member.linkname}"
        raise InputError(
            f"{member.name} in shard {shard} {kind}, its content is not there",
            hint="pack files as they are: tar --dereference --hard-dereference, without --sparse",
        )
    return Part(member.name, member.offset_data, member.size) if member.isfile() else None


def _grouped(shard: Path, found: list[tuple[tuple[str, str], Part]]) -> list[Sample]:
    """Samples of files in the shard's order.

    Files of a key that follow each other are one sample. A later run of the same key is the rest of that sample if
    it has other parts only, and otherwise another one.
    """
    samples: list[Sample] = []
    latest: dict[str, Sample] = {}
    for key, files in groupby(found, key=lambda entry: entry[0][0]):
        run = _run(shard, key, files)
        before = latest.get(key)
        if before is not None and before.parts.keys().isdisjoint(run):
            before.parts.update(run)
            continue
        latest[key] = Sample(shard, key, before.time + 1 if before else 1, run)
        samples.append(latest[key])
    return samples


def _run(shard: Path, key: str, files: Iterator[tuple[tuple[str, str], Part]]) -> dict[str, Part]:
    run: dict[str, Part] = {}
    for (_, suffix), part in files:
        if suffix in run:
            raise InputError(
                f"sample {key} of {shard} has the file {part.name} twice (also as {run[suffix].name})",
                hint="pack the shard again with one of them; names differ before the first full stop",
            )
        run[suffix] = part
    return run


def _check_kind(file: BinaryIO, shard: Path) -> None:
    start = file.read(8)
    file.seek(0)
    for signature, kind in _SIGNATURES.items():
        if start.startswith(signature):
            raise InputError(f"shard {shard} is compressed ({kind})", hint="uncompressed tar files are read: unpack it")


def _check_end(file: BinaryIO, end: int, shard: Path) -> None:
    """Refuse what Python's and webdataset's readers take for the end although it is none."""
    file.seek(end)
    mark = file.read(_BLOCK)
    if len(mark) < _BLOCK:
        raise InputError(f"shard {shard} has no end, it was cut off after {end} bytes", hint="copy it again")
    rest = mark
    while rest:
        if rest.count(0) < len(rest):
            raise InputError(
                f"shard {shard} goes on behind its end, at byte {end}: another archive, or a damaged one",
                hint="two that were put together: take them apart, or tar --concatenate them; else copy it again",
            )
        rest = file.read(1 << 16)

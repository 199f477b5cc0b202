"""From the samples of shards to images with labels; what cannot be one is named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlmprompt.data.files import READABLE
from vlmprompt.data.formats import IMAGE_SUFFIXES
from vlmprompt.data.missing import UNLABELLED, left_out
from vlmprompt.data.shards.index import Part, Sample, samples_of
from vlmprompt.data.shards.labels import label_of, unlabelled
from vlmprompt.data.shards.options import Options
from vlmprompt.data.splits import shortened
from vlmprompt.errors import InputError

_NOTE = re.compile(r"__[^/]*__")  # keys of files that are about a shard


@dataclass(frozen=True)
class Pair:
    """An image and its label, a class name or the digits of an index."""

    sample: Sample
    image: Part
    label: str


def pairs_of(shards: Sequence[Path], options: Options) -> tuple[list[Pair], list[str]]:
    """Every image with its label, in the order of the shards; and warnings about what else is there.

    Raises:
        InputError: a shard cannot be read, there are no samples, or one has no image, several, or no label.
    """
    samples: list[Sample] = []
    doubts: list[str] = []
    for shard in shards:
        found = samples_of(shard)
        whole = [sample for sample in found if not _is_beside(sample, options)]
        samples += whole
        doubts += _doubts(shard, found, whole)
    images = [_image(sample, options) for sample in samples]
    _check_labels(samples, options)
    pairs = [Pair(s, image, label_of(s, options)) for s, image in zip(samples, images, strict=True)]
    marked = [pair.sample.where for pair in pairs if pair.label in UNLABELLED]
    if len(marked) == len(pairs):
        raise InputError(f"no sample has a label, all are marked {pairs[0].label}", hint="?label= names another file")
    return [pair for pair in pairs if pair.label not in UNLABELLED], doubts + left_out({"no label": marked})


def _is_beside(sample: Sample, options: Options) -> bool:
    """Whether files belong to no sample: notes on the shard, or neither an image nor a label."""
    pictures = list(_pictures(sample, options))
    return not pictures and (options.label not in sample.parts or _NOTE.fullmatch(sample.key) is not None)


def _doubts(shard: Path, found: Sequence[Sample], whole: Sequence[Sample]) -> Iterator[str]:
    used = {(sample.key, sample.time) for sample in whole}
    beside = [s.key for s in found if (s.key, s.time) not in used and not _NOTE.fullmatch(s.key)]
    if beside:
        yield f"{len(beside)} key(s) in {shard} have neither image nor label and are left out: {shortened(beside)}"
    again = [sample.key for sample in whole if sample.time > 1]
    if again:
        yield f"{len(again)} key(s) come again in {shard}, and each of their samples is read: {shortened(again)}"
    if not whole:
        yield f"shard {shard} has no samples"


def _pictures(sample: Sample, options: Options) -> Iterable[str]:
    """Suffixes that may be the image's: the one that is said, or those that are an image's and nothing else."""
    if options.image:
        return [options.image] if options.image in sample.parts else []
    return [suffix for suffix in sample.parts if f".{suffix}" in IMAGE_SUFFIXES]


def _image(sample: Sample, options: Options) -> Part:
    pictures = list(_pictures(sample, options))
    if len(pictures) == 1:
        return sample.parts[pictures[0]]
    if pictures:
        hint = f"one a sample, or say which after the path: ?image={pictures[0]}"
        raise InputError(f"{sample.where} has {len(pictures)} images: {', '.join(pictures)}", hint=hint)
    wanted = f" called .{options.image}" if options.image else ""
    hint = f"names count up to their first full stop, and what follows is that of an image alone; {READABLE}"
    raise InputError(f"{sample.where} has 0 images{wanted}, it has {', '.join(sorted(sample.parts))}", hint=hint)


def _check_labels(samples: Sequence[Sample], options: Options) -> None:
    if not samples:
        raise InputError("the shards have no samples", hint="expected are files such as 0001.jpg with 0001.cls")
    without = [sample for sample in samples if options.label not in sample.parts]
    if without:
        raise unlabelled(without, len(samples), options)

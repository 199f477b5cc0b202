"""`wds:<folder or pattern>`: images in tar files, as webdataset and CLIP_benchmark write them.

    food/classnames.txt                shards/train-000000.tar
    food/train/0.tar ...               shards/train-000001.tar
    food/test/0.tar ...                shards/test-000000.tar

A sample is an image and a `.cls` of the same key: `0001.jpg`, `0001.cls`. `.cls` holds the label: a class name or,
with a `classnames.txt` beside the shards or --class-names, an index. Where it is another file, or there are several
pictures, that is said after the path: `?label=txt`, `?label=json.class`, `?image=jpg`.

The split of a shard is that of its folder, or else the word in its name that says one; without any, a recorded
seed splits. Shards are local files. They are indexed once and never unpacked: training needs random access, which
is why the webdataset package, which streams, is not used.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from vlmprompt.data.contents import file_state
from vlmprompt.data.names import code_warning
from vlmprompt.data.parts import gaps
from vlmprompt.data.records import Dataset, Record
from vlmprompt.data.rows import Row, labels_of, splits_of
from vlmprompt.data.shards.index import Part, read_part
from vlmprompt.data.shards.names import find_shards
from vlmprompt.data.shards.options import split_options
from vlmprompt.data.shards.pairs import Pair, pairs_of
from vlmprompt.data.split_names import said_split
from vlmprompt.data.splits import check_coverage
from vlmprompt.errors import InputError

NAMES_FILE = "classnames.txt"


@dataclass(frozen=True, slots=True)
class TarImage:
    """An image within a tar file, read where it lies."""

    shard: Path
    part: Part

    @property
    def key(self) -> str:
        """See `ImageSource`: where it lies, in the shard as it is."""
        return f"{file_state(self.shard)} {self.part.offset} {self.part.size}"

    def encoded(self) -> tuple[BinaryIO, str]:
        """See `EncodedSource`."""
        return io.BytesIO(read_part(self.shard, self.part)), f"{self.part.name} in {self.shard}"

    def stamp(self) -> tuple[int, int]:
        """See `data.contents.stamp`; the time is the shard's."""
        return self.part.size, self.shard.stat().st_mtime_ns


class ShardReader:
    """Shards below a folder or matching a pattern, such as `wds:food` or `wds:shards/train-{0000..0007}.tar`."""

    upright = True
    takes_whole = True

    def look(self, argument: str, *, root: Path | None) -> None:
        """See `data.load.DatasetReader`."""
        path, _ = split_options(argument)
        find_shards(path, root)

    def load(
        self, argument: str, *, root: Path | None, class_names_file: Path | None, split_seed: int | None
    ) -> Dataset:
        """Index the shards; no image is decoded.

        Raises:
            UsageError: an unknown option, or braces that are no pattern.
            InputError: no shards or not all, a damaged one, a sample without image or label, unknown labels.
        """
        path, options = split_options(argument)
        base, shards = find_shards(path, root)
        splits = _shard_splits(base, shards)
        pairs, warnings = pairs_of(shards, options)
        if "{" not in path:  # braces say which are meant
            warnings += gaps(shard.relative_to(base).as_posix() for shard in shards)
        rows = [_row(base, pair, splits[pair.sample.shard]) for pair in pairs]
        own_names = base / NAMES_FILE
        names_file = class_names_file or (own_names.absolute() if own_names.is_file() else None)
        names, labels, origin = labels_of(rows, names_file, root)
        images = (TarImage(pair.sample.shard, pair.image) for pair in pairs)
        records = [Record(row.path, label, image) for row, image, label in zip(rows, images, labels, strict=True)]
        parts, made = splits_of(rows, records, names, split_seed)
        notes: dict[str, object] = {"shards": [str(shard.relative_to(base)) for shard in shards]}
        notes |= {"class_names": origin, "warnings": warnings + code_warning(names) + check_coverage(parts, names)}
        if made is not None:
            notes["split"] = made
        return Dataset(base.resolve().name, f"wds:{argument}", names, parts, notes=notes)


def _shard_splits(base: Path, shards: list[Path]) -> dict[Path, str]:
    """The split that each shard says; empty for all if none says one."""
    said = {shard: said_split(PurePosixPath(shard.relative_to(base).as_posix())) for shard in shards}
    silent = [shard for shard, split in said.items() if not split]
    if silent and len(silent) < len(said):
        raise InputError(
            f"shard {silent[0]} does not say its split, others do", hint="put shards into folders train, val and test"
        )
    return said


def _row(base: Path, pair: Pair, split: str) -> Row:
    sample = pair.sample
    again = f"#{sample.time}" if sample.time > 1 else ""
    path = f"{sample.shard.relative_to(base).as_posix()}/{pair.image.name}{again}"
    return Row(sample.where, path, pair.label, split)

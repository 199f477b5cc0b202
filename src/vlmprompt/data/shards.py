"""`wds:<folder or pattern>`: images in tar files, as webdataset and CLIP_benchmark write them.

The members of a sample share the path up to the first full stop of the file's name: `0001.jpg`, `0001.cls`.
`.cls` holds the label: a class name or, with a `classnames.txt` beside the shards or --class-names, an index.

    food/classnames.txt                shards/train-000000.tar
    food/train/0.tar ...               shards/train-000001.tar
    food/test/0.tar ...                shards/test-000000.tar

The split of a shard is that of its folder, or else the word in its name that says one; without any, a recorded
seed splits. Shards are local files. They are indexed once and never unpacked: training needs random access, which
is why the webdataset package, which streams, is not used.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from vlmprompt.data.files import READABLE, is_image, locate
from vlmprompt.data.images import decode
from vlmprompt.data.records import Dataset, Record
from vlmprompt.data.rows import Row, labels_of, splits_of
from vlmprompt.data.splits import SPLIT_ALIASES, check_coverage
from vlmprompt.errors import InputError

NAMES_FILE = "classnames.txt"
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True, slots=True)
class TarImage:
    """An image within a tar file, read where it lies."""

    shard: Path
    name: str
    offset: int
    size: int

    def load(self) -> Image.Image:
        """See `ImageSource`."""
        try:
            with self.shard.open("rb") as file:
                file.seek(self.offset)
                data = file.read(self.size)
        except OSError as error:
            raise InputError(f"cannot read shard {self.shard}: {error.strerror}") from error
        return decode(io.BytesIO(data), f"{self.name} in {self.shard}")


class ShardReader:
    """Shards below a folder or matching a pattern, such as `wds:food` or `wds:shards/train-{0000..0007}.tar`."""

    def load(self, argument: str, *, root: Path | None, class_names_file: Path | None, split_seed: int) -> Dataset:
        """Index the shards; no image is decoded.

        Raises:
            InputError: no shards, a damaged one, a sample without image or label, unknown labels.
        """
        base, shards = _find(argument, root)
        splits = _shard_splits(base, shards)
        samples = [sample for shard in shards for sample in _samples(base, shard, splits[shard])]
        rows = [row for row, _ in samples]
        own_names = base / NAMES_FILE
        names_file = class_names_file or (own_names.absolute() if own_names.is_file() else None)
        names, labels, origin = labels_of(rows, names_file, root)
        records = [Record(row.path, label, image) for (row, image), label in zip(samples, labels, strict=True)]
        parts, made = splits_of(rows, records, names, split_seed)
        notes: dict[str, object] = {"shards": [str(shard.relative_to(base)) for shard in shards]}
        notes |= {"class_names": origin, "warnings": check_coverage(parts, names)}
        if made is not None:
            notes["split"] = made
        return Dataset(base.resolve().name, f"wds:{argument}", names, parts, notes=notes)


def _find(argument: str, root: Path | None) -> tuple[Path, list[Path]]:
    """The folder that ids are relative to, and the shards in order of their names."""
    if not any(sign in argument for sign in "*?[{"):
        found = locate(argument, root)
        if found.is_file():
            return found.parent, [found]
        base, patterns = found, ["**/*.tar"]
    else:
        path = Path(argument)
        patterns = list(_expanded(path.name))
        # As `locate`: the working directory first, then the root.
        places = [path.parent] if root is None else [path.parent, root / path.parent]
        base = next((place for place in places if any(_matching(place, part) for part in patterns)), places[-1])
    shards = [shard for part in patterns for shard in _matching(base, part)]
    if not shards:
        raise InputError(f"there are no shards {argument} in {base.absolute()}", hint="shards are files *.tar")
    return base, shards


def _matching(base: Path, pattern: str) -> list[Path]:
    return sorted(base.glob(pattern)) if base.is_dir() else []


def _expanded(pattern: str) -> Iterator[str]:
    """The names that `{0000..0007}` stands for."""
    match = _BRACES.search(pattern)
    if match is None:
        yield pattern
        return
    for number in range(int(match[1]), int(match[2]) + 1):
        yield from _expanded(pattern[: match.start()] + str(number).zfill(len(match[1])) + pattern[match.end() :])


def _shard_splits(base: Path, shards: list[Path]) -> dict[Path, str]:
    """The split that each shard says; empty for all if none says one."""
    said = {shard: _said_split(shard.relative_to(base)) for shard in shards}
    silent = [shard for shard, split in said.items() if not split]
    if silent and len(silent) < len(said):
        raise InputError(
            f"shard {silent[0]} does not say its split, others do", hint="put shards into folders train, val and test"
        )
    return said


def _said_split(path: Path) -> str:
    words = [*reversed(path.parts[:-1]), *re.split(r"[^a-z]+", path.stem.lower())]
    return next((SPLIT_ALIASES[word.lower()] for word in words if word.lower() in SPLIT_ALIASES), "")


def _samples(base: Path, shard: Path, split: str) -> Iterator[tuple[Row, TarImage]]:
    """The samples of a shard, in its order."""
    members: dict[str, dict[str, tarfile.TarInfo]] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if member.isfile():
                    folder, _, file = member.name.rpartition("/")
                    key, _, suffix = file.partition(".")
                    members.setdefault(f"{folder}/{key}" if folder else key, {})[suffix.lower()] = member
            for key, parts in members.items():
                yield _sample(tar, base, shard, split, key, parts)
    except (OSError, tarfile.TarError) as error:
        hint = "uncompressed tar files are read; copy it again if it is one"
        raise InputError(f"cannot read shard {shard}: {error}", hint=hint) from error


def _sample(
    tar: tarfile.TarFile, base: Path, shard: Path, split: str, key: str, parts: dict[str, tarfile.TarInfo]
) -> tuple[Row, TarImage]:
    where = f"sample {key} of {shard}"
    images = [member for suffix, member in parts.items() if is_image(f".{suffix}")]
    if len(images) != 1:
        raise InputError(f"{where} has {len(images)} images", hint=f"one a sample; {READABLE}")
    label = parts.get("cls")
    content = tar.extractfile(label) if label is not None else None
    if content is None:
        raise InputError(f"{where} has no label", hint=f"expected {key}.cls with a class name or an index")
    text = content.read().decode("utf-8-sig", errors="replace").strip()
    image = images[0]
    path = f"{shard.relative_to(base).as_posix()}/{image.name}"
    return Row(where, path, text, split), TarImage(shard, image.name, image.offset_data, image.size)

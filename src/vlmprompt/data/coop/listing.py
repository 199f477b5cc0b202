"""What a benchmark's split says: class names, and the path and label of each image of each split.

Read from CoOp's JSON split files or from official text files, and held against what was published: by SHA-256
where it is known, by numbers of images where not. A split that is not the published one is refused unless the
user says that it is meant, because its numbers compare with none.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmprompt.data.coop.facts import COPIES, SPLITS_SOURCE, Benchmark, Lists, SplitFile
from vlmprompt.data.coop.place import Place
from vlmprompt.data.files import check_inside
from vlmprompt.data.records import SPLITS
from vlmprompt.errors import InputError
from vlmprompt.regular import regular

Rows = list[tuple[str, int]]
DIGITS = 12  # of a SHA-256 in messages


@dataclass(frozen=True)
class Listing:
    """The content of a split.

    Attributes:
        names: class names in label order, as the file spells them.
        splits: split -> (path, label), in the file's order.
        files: the files it was read from, and their SHA-256.
    """

    names: tuple[str, ...]
    splits: Mapping[str, Rows]
    files: Mapping[Path, str]

    @property
    def repeated(self) -> list[str]:
        """Paths that are listed more than once, in one split or in several."""
        times = Counter(path for rows in self.splits.values() for path, _ in rows)
        return [path for path, n in times.items() if n > 1]

    @property
    def counts(self) -> dict[str, int]:
        """Images of each split."""
        return {split: len(rows) for split, rows in self.splits.items()}


def read_listing(place: Place, accept: bool) -> tuple[Listing, dict[str, object]]:
    """The split of a data set, and what to record of it.

    Args:
        accept: take a split that is not the published one.

    Raises:
        InputError: a file is missing or malformed, a path leaves the image folder, or the split is not the
            published one.
    """
    benchmark = place.benchmark
    listing = _read_json(_required(place, benchmark.split.file)) if benchmark.split else _read_lists(place)
    verified = _verified(listing, benchmark, accept)
    files = {file.name: digest for file, digest in listing.files.items()}
    return listing, {"files": files, "verified": verified}


def require_listing(place: Place) -> None:
    """Refuse a data set whose split is in a file that is not there.

    Raises:
        InputError: says where the file is had from.
    """
    if place.benchmark.split:
        _required(place, place.benchmark.split.file)


def published_split(split: SplitFile, file: Path) -> bool:
    """Whether a file is the published one by its SHA-256; true where that is not known."""
    return hashlib.sha256(_bytes(file)).hexdigest().startswith(split.sha256)


def _required(place: Place, file: str) -> Path:
    found = place.find(file)
    if found is not None:
        return found
    folder = place.folders[0] if place.folders else place.root / place.benchmark.folders[0]
    copy = f" (and lies in {place.benchmark.archive} of {COPIES})" if place.benchmark.archive else ""
    had_from = (
        f"it is had from {_source(place.benchmark)}{copy}; a split made in its place would give numbers of its own"
    )
    raise InputError(
        f"{place.benchmark.spec} has no {file}, neither in {folder.absolute()} nor in {place.root.absolute()}",
        hint=place.misplaced() or had_from,
    )


def _verified(listing: Listing, benchmark: Benchmark, accept: bool) -> str:
    """How the split was found to be the published one, or "accepted" for another one."""
    known = benchmark.split.sha256 if benchmark.split else ""
    ((file, digest), *_) = listing.files.items()
    if known and digest.startswith(known):
        return "sha256"
    if known:
        problem = f"{file} is not the published file: its SHA-256 is {digest[:DIGITS]}..., not {known[:DIGITS]}..."
    else:
        found, published = (len(listing.names), listing.counts), (benchmark.classes, benchmark.images)
        if found == published:
            return "counts"
        problem = f"{file} is not the published split: it has {_numbers(*found)}, published are {_numbers(*published)}"
    if accept:
        return "accepted"
    raise InputError(
        problem, hint=f"it is had from {_source(benchmark)}; --accept-split takes this one, and records it"
    )


def _source(benchmark: Benchmark) -> str:
    return SPLITS_SOURCE if benchmark.split else benchmark.source


def _numbers(classes: int, images: Mapping[str, int]) -> str:
    return f"{classes} classes and {'/'.join(str(images.get(split, 0)) for split in SPLITS if split in images)} images"


# -- JSON split files -------------------------------------------------------------------------------
def _read_json(file: Path) -> Listing:
    data = _bytes(file)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not JSON: {error}", hint=f"it is had from {SPLITS_SOURCE}") from error
    if not isinstance(content, dict) or not {"train", "test"} <= content.keys() <= set(SPLITS):
        raise InputError(f"{file} is no split file", hint='expected {"train": [...], "val": [...], "test": [...]}')
    names: dict[int, str] = {}
    splits = {split: _json_rows(file, split, content[split], names) for split in SPLITS if split in content}
    if sorted(names) != list(range(len(names))):
        gap = min(set(range(len(names))) - names.keys())
        raise InputError(f"{file} has no images of label {gap}", hint="labels count from 0 without gaps")
    in_order = tuple(names[label] for label in range(len(names)))
    return Listing(in_order, splits, {file: hashlib.sha256(data).hexdigest()})


def _json_rows(file: Path, split: str, rows: Any, names: dict[int, str]) -> Rows:
    """The rows of a split; fills in the name of each label."""
    if not isinstance(rows, list):
        raise InputError(f"{split} of {file} is not a list", hint="expected [[path, label, class name], ...]")
    read: Rows = []
    for i, row in enumerate(rows, 1):
        if not _is_row(row):
            raise InputError(f"{file}, {split} row {i} is not [path, label, class name]: {json.dumps(row)[:80]}")
        path, label, name = row
        if names.setdefault(label, name) != name:
            raise InputError(
                f"{file}, {split} row {i}: label {label} is {name!r}, in a row before it is {names[label]!r}"
            )
        check_inside(path, file, f"{split} row {i}")
        read.append((path, label))
    return read


def _is_row(row: Any) -> bool:
    match row:
        case [str(path), int(label), str(name)]:
            return bool(path and name) and label >= 0 and not isinstance(label, bool)
    return False


# -- official text files ----------------------------------------------------------------------------
def _read_lists(place: Place) -> Listing:
    lists = place.benchmark.lists
    assert lists is not None, f"{place.benchmark.name} has neither a split file nor lists"
    files = _list_files(place, lists)
    names = tuple(_lines(files["classes"]))
    labels = {name: label for label, name in enumerate(names)}
    splits = {split: _list_rows(files[split], labels) for split in lists.splits}
    digests = {file: hashlib.sha256(_bytes(file)).hexdigest() for file in files.values()}
    return Listing(names, splits, digests)


def _list_files(place: Place, lists: Lists) -> dict[str, Path]:
    return {key: _required(place, file) for key, file in {**lists.splits, "classes": lists.classes}.items()}


def _list_rows(file: Path, labels: Mapping[str, int]) -> Rows:
    """Lines such as "1025794 707-320": the image's name without its suffix, and the class."""
    rows: Rows = []
    for i, line in enumerate(_lines(file), 1):
        image, _, name = line.partition(" ")
        if name not in labels:
            raise InputError(f"{file}, line {i}: {name!r} is no class of the data set")
        check_inside(image, file, f"line {i}")
        rows.append((f"{image}.jpg", labels[name]))
    return rows


def _lines(file: Path) -> list[str]:
    """Its lines without blanks around them; empty ones are left out."""
    try:
        lines = _bytes(file).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text") from error
    return [line.strip() for line in lines if line.strip()]


# -- both -------------------------------------------------------------------------------------------
def _bytes(file: Path) -> bytes:
    try:
        return regular(file).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error

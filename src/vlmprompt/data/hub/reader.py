"""`hf:<name or folder>`: data sets of the Hugging Face hub, or on disk, through the package `datasets`.

    hf:uoft-cs/cifar100?label=fine_label       hf:saved/my-dataset       hf:org/name?config=v2&test=validation

After `?` stand, separated by `&`: `image` and `label` (columns, where they are not evident), `config`, `revision`,
and `train`, `val`, `test` (the name of that split there). Without a split but train, a recorded seed splits. A local
folder of images in class folders is read as `folder:` reads it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qsl

from vlmprompt.data.coop.copies import refuse_copy
from vlmprompt.data.folder import FolderReader
from vlmprompt.data.hub.columns import image_column, label_column
from vlmprompt.data.hub.labels import labels_by_name
from vlmprompt.data.hub.source import has_class_folders, local_path, open_tables
from vlmprompt.data.missing import left_out
from vlmprompt.data.names import code_warning
from vlmprompt.data.records import SPLITS, Dataset, Record
from vlmprompt.data.split_names import split_named
from vlmprompt.data.splits import Splits, check_coverage, seeded_split, to_measure
from vlmprompt.errors import InputError, UsageError, did_you_mean

OPTIONS = ("config", "image", "label", "revision", *SPLITS)
Tables = Mapping[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class HubImage:
    """One row of a table; the table is shared by all records and reads from its file."""

    table: Any
    column: str
    index: int
    name: str

    @property
    def key(self) -> str:
        """See `ImageSource`: its row, in the table as its fingerprint says."""
        return f"{_fingerprint([self.table])} {self.column} {self.index}"

    def encoded(self) -> tuple[BinaryIO | Path, str]:
        """See `EncodedSource`."""
        cell = self.table[self.index][self.column]
        return io.BytesIO(cell["bytes"]) if cell["bytes"] is not None else Path(cell["path"]), self.name

    def stamp(self) -> tuple[int, int]:
        """See `data.contents.stamp`; a row has no time, the table's fingerprint says when it changes."""
        file, _ = self.encoded()
        return file.stat().st_size if isinstance(file, Path) else len(file.read()), 0


class HubReader:
    """A data set with one image column and one label column: ClassLabel, text, or integers with --class-names."""

    upright = True
    takes_whole = True

    def look(self, argument: str, *, root: Path | None) -> None:
        """See `data.load.DatasetReader`; what the hub has is not asked."""
        name, _ = _options(argument)
        local_path(name, root)

    def load(
        self, argument: str, *, root: Path | None, class_names_file: Path | None, split_seed: int | None
    ) -> Dataset:
        """Read labels and where the images are; no image is decoded.

        Raises:
            UsageError: an unknown option after `?`.
            InputError: the package or the data set is missing, or columns, labels or splits are not evident.
        """
        name, options = _options(argument)
        path = local_path(name, root)
        refuse_copy(name, path)
        if path is not None and has_class_folders(path):
            return _images(argument, path, class_names_file, split_seed)
        found = open_tables(name, path, options.get("config"), options.get("revision"))
        tables, doubts = _splits(found, options)
        names, records, origin, missing = _records(tables, options, class_names_file, root)
        prints = {split: _fingerprint(parts) for split, parts in tables.items()}
        notes: dict[str, object] = {"class_names": origin, "fingerprints": prints}
        splits: Splits = records
        if set(records) == {"train"}:
            splits, notes["split"] = seeded_split(records["train"], names, split_seed)
        elif split_seed is None:
            splits, notes["split"] = to_measure(records)
        notes["warnings"] = doubts + missing + code_warning(names) + check_coverage(splits, names)
        return Dataset(name.rstrip("/").rpartition("/")[2], f"hf:{argument}", names, splits, notes=notes)


def _options(argument: str) -> tuple[str, dict[str, str]]:
    name, _, query = argument.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    for key in options:
        if key not in OPTIONS:
            raise UsageError(f"hf:{name} has no option {key!r}", hint=did_you_mean(key, OPTIONS))
    if not name:
        raise UsageError("the data set names nothing", hint="such as hf:uoft-cs/cifar100?label=fine_label")
    return name, options


def _images(argument: str, path: Path, class_names_file: Path | None, split_seed: int | None) -> Dataset:
    """Class folders by our own rules: the library looks for the names of splits in the names of classes too."""
    name, stop, query = argument.partition("?")
    without = [key for key in _options(argument)[1] if key not in SPLITS]
    if without:
        raise UsageError(
            f"{without[0]} has no effect on hf:{name}, which is images in class folders", hint="leave it out"
        )
    reader = FolderReader()
    dataset = reader.load(f"{path}{stop}{query}", root=None, class_names_file=class_names_file, split_seed=split_seed)
    return replace(dataset, spec=f"hf:{argument}")


def _splits(tables: Tables, options: Mapping[str, str]) -> tuple[dict[str, Sequence[Any]], list[str]]:
    """Split, as we call it -> its tables; and warnings about those that are left out."""
    chosen: dict[str, str] = {split: options[split] for split in SPLITS if split in options}
    for split, theirs in chosen.items():
        if theirs not in tables:
            raise InputError(f"there is no split {theirs!r} for {split}", hint=did_you_mean(theirs, tables))
    twice = [theirs for theirs in chosen.values() if list(chosen.values()).count(theirs) > 1]
    if twice:
        raise UsageError(f"split {twice[0]!r} cannot be two of train, val and test", hint="name another split for one")
    for theirs in tables:
        ours = split_named(theirs)
        if ours and theirs not in chosen.values():
            chosen.setdefault(ours, theirs)
    if not chosen:
        raise InputError(f"none of the splits {', '.join(tables)} is train, val or test", hint="say so: ?train=NAME")
    unused = [theirs for theirs in tables if theirs not in chosen.values()]
    warnings = [f"split {theirs!r} is left out; ?test={theirs} would test on it" for theirs in unused]
    return {split: tables[chosen[split]] for split in SPLITS if split in chosen}, warnings


def _records(
    tables: Tables, options: Mapping[str, str], names_file: Path | None, root: Path | None
) -> tuple[tuple[str, ...], Splits, object, list[str]]:
    """Class names, records by split, where the names are from, and warnings about rows that are left out."""
    first = next(part for parts in tables.values() for part in parts)
    image, label = image_column(first, options.get("image")), label_column(first, options.get("label"))
    for part in (part for parts in tables.values() for part in parts):
        image_column(part, image)
        label_column(part, label)
    names, labels, origin = labels_by_name(tables, label, names_file, root)
    splits: Splits = {}
    missing: dict[str, list[str]] = {"no label": [], "no image": []}
    for split, parts in tables.items():
        records, pictured = _rows(split, _encoded(parts, image), image, labels[split])
        splits[split] = tuple(records[i] for i in records if pictured[i])
        missing["no label"] += [f"{split} row {i}" for i in range(len(pictured)) if i not in records]
        missing["no image"] += [f"{split} row {i}" for i in records if not pictured[i]]
    return names, {split: part for split, part in splits.items() if part}, origin, left_out(missing)


def _rows(
    split: str, table: Any, column: str, labels: Sequence[int | None]
) -> tuple[dict[int, Record], Sequence[bool]]:
    """The records of rows with a label, by row, and of each row of the table whether it has an image."""
    records = {
        i: Record(f"{split}/{i:07}", label, HubImage(table, column, i, f"{split} row {i}"))
        for i, label in enumerate(labels)
        if label is not None
    }
    return records, _has_image(table, column)


def _encoded(parts: Sequence[Any], column: str) -> Any:
    """The image column alone, as bytes: decoding is ours, the same for every source."""
    import datasets

    image = datasets.Image(decode=False)
    return datasets.concatenate_datasets([part.select_columns([column]).cast_column(column, image) for part in parts])


def _has_image(table: Any, column: str) -> list[bool]:
    """For each row, whether there is an image, without loading any."""
    import pyarrow.compute as pc

    cells = table.with_format("arrow")[:].column(column)
    fields = [pc.is_valid(pc.struct_field(cells, field)) for field in ("bytes", "path")]
    found: list[bool] = pc.or_(*fields).to_pylist()
    return found


def _fingerprint(parts: Sequence[Any]) -> str:
    """What `datasets` itself tells versions of a table by."""
    return "+".join(str(part._fingerprint) for part in parts)

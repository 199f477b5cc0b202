"""`hf:<name or folder>`: data sets of the Hugging Face hub, or saved on disk, through the package `datasets`.

    hf:uoft-cs/cifar100?label=fine_label       hf:saved/my-dataset       hf:org/name?config=v2&test=validation

After `?` stand, separated by `&`: `image` and `label` (columns, where they are not evident), `config`, `revision`,
and `train`, `val`, `test` (the name of that split there). Without a split but train, a recorded seed splits.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from PIL import Image

from vlmprompt.data.images import decode
from vlmprompt.data.names import code_warning, label_names, read_names
from vlmprompt.data.records import SPLITS, Dataset, Record
from vlmprompt.data.rows import Row, labels_of
from vlmprompt.data.split_names import split_named
from vlmprompt.data.splits import Splits, check_coverage, seeded_split
from vlmprompt.errors import InputError, UsageError, did_you_mean

OPTIONS = ("config", "image", "label", "revision", *SPLITS)
SAVED = ("dataset_dict.json", "state.json")  # what `save_to_disk` leaves
UNLABELLED = -1  # how test splits without published labels are marked


@dataclass(frozen=True, slots=True)
class HubImage:
    """One row of a table; the table is shared by all records and reads from its file."""

    table: Any
    column: str
    index: int
    name: str

    def load(self) -> Image.Image:
        """See `ImageSource`."""
        cell = self.table[self.index][self.column]
        file = io.BytesIO(cell["bytes"]) if cell["bytes"] is not None else Path(cell["path"])
        return decode(file, self.name)

    def content(self) -> bytes:
        """The encoded image."""
        cell = self.table[self.index][self.column]
        data: bytes = cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]).read_bytes()
        return data

    def stamp(self) -> tuple[int, int]:
        """See `data.contents.stamp`; a row has no time, the table's fingerprint says when it changes."""
        return len(self.content()), 0


class HubReader:
    """A data set with one image column and one label column: ClassLabel, text, or integers with --class-names."""

    takes_whole = True

    def load(
        self, argument: str, *, root: Path | None, class_names_file: Path | None, split_seed: int | None
    ) -> Dataset:
        """Read labels and where the images are; no image is decoded.

        Raises:
            UsageError: an unknown option after `?`.
            InputError: the package or the data set is missing, or columns, labels or splits are not evident.
        """
        name, options = _options(argument)
        tables, left_out = _splits(_tables(name, options, root), options)
        names, records, origin = _records(tables, options, class_names_file, root)
        notes: dict[str, object] = {"class_names": origin, "fingerprints": _fingerprints(tables)}
        splits: Splits = records
        if set(records) == {"train"}:
            splits, notes["split"] = seeded_split(records["train"], names, split_seed)
        notes["warnings"] = left_out + code_warning(names) + check_coverage(splits, names)
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


def _tables(name: str, options: Mapping[str, str], root: Path | None) -> Mapping[str, Any]:
    """Split, as it is called there -> table."""
    try:
        import datasets
    except ImportError as error:
        raise InputError("hf: needs the package datasets", hint="pip install 'vlmprompt[hf]'") from error
    folder = next((place for place in (Path(name), *([root / name] if root else [])) if place.is_dir()), None)
    try:
        if folder is not None and any((folder / file).exists() for file in SAVED):
            found = datasets.load_from_disk(str(folder))
        else:
            source = name if folder is None else str(folder)
            found = datasets.load_dataset(source, options.get("config"), revision=options.get("revision"))
    except Exception as error:  # the library raises its own, those of its file systems and plain ones alike
        first = str(error).strip().splitlines() or [type(error).__name__]
        hint = "check the name, the network, and config= and revision= after '?'"
        raise InputError(f"cannot load Hugging Face data set {name!r}: {first[0]}", hint=hint) from error
    return found if isinstance(found, Mapping) else {"train": found}


def _splits(tables: Mapping[str, Any], options: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Split, as we call it -> table; and warnings about those that are left out."""
    chosen: dict[str, str] = {split: options[split] for split in SPLITS if split in options}
    for split, theirs in chosen.items():
        if theirs not in tables:
            raise InputError(f"there is no split {theirs!r} for {split}", hint=did_you_mean(theirs, tables))
    for theirs in tables:
        ours = split_named(theirs)
        if ours is not None and theirs not in chosen.values():
            chosen.setdefault(ours, theirs)
    if not chosen:
        raise InputError(f"none of the splits {', '.join(tables)} is train, val or test", hint="say so: ?train=NAME")
    unused = [theirs for theirs in tables if theirs not in chosen.values()]
    warnings = [f"split {theirs!r} is left out; ?test={theirs} would test on it" for theirs in unused]
    return {split: tables[chosen[split]] for split in SPLITS if split in chosen}, warnings


def _records(
    tables: Mapping[str, Any], options: Mapping[str, str], names_file: Path | None, root: Path | None
) -> tuple[tuple[str, ...], Splits, object]:
    first = next(iter(tables.values()))
    image = _column(first, "image", "Image", options.get("image"))
    label = options.get("label") or _label_column(first)
    for table in tables.values():
        for column in (image, label):
            _require_column(table, column)
    names, labels, origin = _labels(tables, label, names_file, root)
    splits = {
        split: tuple(_split_records(split, _encoded(table, image), image, labels[split]))
        for split, table in tables.items()
    }
    return names, {split: records for split, records in splits.items() if records}, origin


def _column(table: Any, what: str, kind: str, given: str | None) -> str:
    """The column of a kind: the one given, the only one, or the one that is called like it."""
    if given is not None:
        return given
    fits = [name for name, feature in table.features.items() if type(feature).__name__ == kind]
    if len(fits) == 1 or what in fits:
        return what if what in fits else fits[0]
    columns = ", ".join(table.column_names)
    raise InputError(f"the {what} column is not evident among {columns}", hint=f"say it after the name: ?{what}=COLUMN")


def _label_column(table: Any) -> str:
    """The column called "label", else the only ClassLabel."""
    return "label" if "label" in table.column_names else _column(table, "label", "ClassLabel", None)


def _require_column(table: Any, column: str) -> None:
    if column not in table.column_names:
        hint = did_you_mean(column, table.column_names)
        raise InputError(f"the Hugging Face data set has no column {column!r}", hint=hint)


def _encoded(table: Any, column: str) -> Any:
    """The image column alone, as bytes: decoding is ours, the same for every source."""
    import datasets

    return table.select_columns([column]).cast_column(column, datasets.Image(decode=False))


def _labels(
    tables: Mapping[str, Any], column: str, names_file: Path | None, root: Path | None
) -> tuple[tuple[str, ...], dict[str, list[int]], object]:
    values = {split: list(table[column]) for split, table in tables.items()}
    spelt = getattr(next(iter(tables.values())).features[column], "names", None)
    if spelt is None:
        rows = [Row(f"{s} row {i}", "", str(v), s) for s, part in values.items() for i, v in enumerate(part)]
        names, flat, origin = labels_of(rows, names_file, root)
        rest = iter(flat)
        return names, {split: [next(rest) for _ in part] for split, part in values.items()}, origin
    if names_file is None:
        return label_names(spelt), values, f"names of column {column!r}"
    names, origin = read_names(names_file, root)
    if len(names) != len(spelt):
        raise InputError(f"{names_file} has {len(names)} class names, column {column!r} has {len(spelt)} classes")
    return names, values, origin


def _split_records(split: str, table: Any, column: str, labels: list[int]) -> list[Record]:
    """Records in the table's order; rows without a label are left out."""
    return [
        Record(f"{split}/{i:07}", label, HubImage(table, column, i, f"{split} row {i}"))
        for i, label in enumerate(labels)
        if label != UNLABELLED
    ]


def _fingerprints(tables: Mapping[str, Any]) -> dict[str, str]:
    """What `datasets` itself tells versions of a table by."""
    return {split: str(table._fingerprint) for split, table in tables.items()}

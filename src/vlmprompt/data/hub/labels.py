"""What the labels of tables mean. Tables agree by the names of classes, never by their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from vlmprompt.data.hub.columns import holds
from vlmprompt.data.missing import UNLABELLED
from vlmprompt.data.names import label_names, read_names
from vlmprompt.data.rows import Row, labels_of
from vlmprompt.errors import InputError

Tables = Mapping[str, Sequence[Any]]
Labels = dict[str, list[int | None]]


def labels_by_name(
    tables: Tables, column: str, names_file: Path | None, root: Path | None
) -> tuple[tuple[str, ...], Labels, object]:
    """Class names, the label of each row by split (None for a row without one), and where the names are from.

    The order of classes is that of the first table; the same class may have another number in another table.

    Args:
        tables: split -> the tables that are its rows, one after the other.

    Raises:
        InputError: no row has a label, a number that is no class, integers in one table and names in another; or
            see `labels_of` and `label_names`.
    """
    kinds = {holds(table.features[column]) for parts in tables.values() for table in parts}
    if "an integer" in kinds and len(kinds) > 1:
        raise InputError(f"column {column!r} holds integers in one table and names in another", hint="save it alike")
    written = {split: list(_written(split, parts, column)) for split, parts in tables.items()}
    rows = [
        Row(f"{split} row {i}", "", text, split)
        for split, texts in written.items()
        for i, text in enumerate(texts)
        if text is not None
    ]
    if not rows:
        raise InputError(f"no row has a label in column {column!r}", hint="another column is named: ?label=COLUMN")
    if kinds == {"a class"}:
        first = next(table for parts in tables.values() for table in parts)
        spelt = dict.fromkeys([*first.features[column].names, *(row.label for row in rows)])
        names, origin = _class_names(list(spelt), column, names_file, root)
        places = {name: i for i, name in enumerate(spelt)}
        found = [places[row.label] for row in rows]
    else:
        names, found, origin = labels_of(rows, names_file, root)
    rest = iter(found)
    return names, {s: [None if text is None else next(rest) for text in texts] for s, texts in written.items()}, origin


def _written(split: str, parts: Sequence[Any], column: str) -> Iterator[str | None]:
    """The label of each row as a class name or the digits of an index; None where there is none."""
    row = count()
    for table in parts:
        names = getattr(table.features[column], "names", None)
        yield from (_text(value, names, f"{split} row {next(row)}") for value in table[column][:])


def _text(value: int | str | None, names: Sequence[str] | None, where: str) -> str | None:
    if value is None or str(value) in UNLABELLED or not str(value).strip():
        return None
    if isinstance(value, str):
        return value
    if value < 0 or (names is not None and value >= len(names)):
        known = f"there are {len(names)} classes" if names is not None else "classes count from 0"
        raise InputError(f"{where} has label {value}, {known}", hint="rows without a label are marked -1, -100 or null")
    return str(value) if names is None else names[value]


def _class_names(
    spelt: list[str], column: str, names_file: Path | None, root: Path | None
) -> tuple[tuple[str, ...], object]:
    if names_file is None:
        if not all(name.strip() for name in spelt):
            raise InputError(f"a class of column {column!r} has no name", hint="name the classes by --class-names FILE")
        return label_names(spelt), f"names of column {column!r}"
    names, origin = read_names(names_file, root)
    if len(names) != len(spelt):
        raise InputError(f"{names_file} has {len(names)} class names, column {column!r} has {len(spelt)} classes")
    return names, origin

"""Labelled rows of any source: what their labels mean, and which split each belongs to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vlmprompt.data.names import label_names, labels_by_name, read_names
from vlmprompt.data.records import SPLITS, Record
from vlmprompt.data.splits import Splits, seeded_split, to_measure
from vlmprompt.errors import InputError, did_you_mean

_INTEGER = re.compile(r"0|[1-9][0-9]*")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_LIST = re.compile(r"\[.*\]|\{.*\}", re.DOTALL)
TRUTH_VALUES = ({"true", "false"}, {"0", "1"}, {"yes", "no"}, {"t", "f"}, {"y", "n"})


@dataclass(frozen=True, slots=True)
class Row:
    """One entry of a list, as written.

    Attributes:
        where: "list.csv, line 3".
        path: as written.
        label: class name, or digits of an index.
        split: as written, or train, val, test; empty if not given.
    """

    where: str
    path: str
    label: str
    split: str


def labels_of(rows: Sequence[Row], file: Path | None, root: Path | None) -> tuple[tuple[str, ...], list[int], object]:
    """Class names, the label of each row, and where the names are from.

    Labels are class names; or, if all of them are integers, indices from 0 into a class-names file. An integer has no
    leading zero: "007" is a name, for as an index it would most likely be meant to count from 1.

    Raises:
        InputError: integers without names, an index or a name that the file does not have, two labels that are
            the same to a text encoder; without names also labels that are fractions, true and false, or lists.
    """
    indices = all(_INTEGER.fullmatch(row.label) for row in rows)
    if file is None:
        if indices:
            hint = "name the classes by --class-names FILE, one a line in label order"
            raise InputError("the labels are integers", hint=hint)
        _check_words(rows)
        names = label_names(sorted({row.label for row in rows}))
        origin: object = "labels of the list, sorted"
    else:
        names, origin = read_names(file, root)
    if indices:
        return names, [_index(row, len(names)) for row in rows], origin
    written = list(dict.fromkeys(row.label for row in rows))
    label_names(written)
    known = dict(zip(written, labels_by_name(written, names), strict=True))
    labels = []
    for row in rows:
        label = known[row.label]
        if label is None:
            hint = did_you_mean(row.label, names)
            raise InputError(f"{row.where}: label {row.label!r} is not among the class names", hint=hint)
        labels.append(label)
    return names, labels, origin


def _check_words(rows: Sequence[Row]) -> None:
    """Refuse values of another type that have been written as text: no class is called so."""
    several = next((row for row in rows if _LIST.fullmatch(row.label)), None)
    if several is not None:
        raise InputError(
            f"{several.where}: label {several.label!r} is not one class", hint="images have one label each"
        )
    labels = {row.label.lower() for row in rows}
    first = f"labels such as {rows[0].label!r} ({rows[0].where})" if rows else ""
    hint = "write the names of the classes, or integers with --class-names FILE"
    if labels and all(map(_NUMBER.fullmatch, labels)) and any(not label.isdigit() for label in labels):
        raise InputError(f"{first} are numbers that are no index", hint=hint)
    if labels == TRUTH_VALUES[0]:
        raise InputError(f"{first} are true or false, no names", hint=hint)


def _index(row: Row, n_classes: int) -> int:
    label = int(row.label)
    if label >= n_classes:
        raise InputError(
            f"{row.where}: there is no class {label}, the class-names file has {n_classes} names",
            hint="integers count from 0",
        )
    return label


def splits_of(
    rows: Sequence[Row], records: Sequence[Record], names: Sequence[str], seed: int | None
) -> tuple[Splits, dict[str, object] | None]:
    """The records by split. If no row names one, the seed splits, and what to record of that is given too.

    Args:
        records: aligned with the rows.
        seed: None for data that are only measured, see `to_measure`.

    Raises:
        InputError: some rows name a split and some do not; or see `seeded_split`.
    """
    without = [row for row in rows if not row.split]
    if len(without) == len(rows):
        return seeded_split(records, names, seed)
    if without:
        raise InputError(
            f"{without[0].where} has no split, others have", hint="name a split for every image, or for none"
        )
    grouped = {s: tuple(r for r, row in zip(records, rows, strict=True) if row.split == s) for s in SPLITS}
    splits = {split: part for split, part in grouped.items() if part}
    return to_measure(splits) if seed is None else (splits, None)

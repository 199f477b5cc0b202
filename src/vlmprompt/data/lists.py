"""`csv:<file>` and `json:<file>`: lists of images, `path,label,split`.

CSV has a first line with the column names; JSON is a list of objects with these keys. Other columns are
ignored. `label` is a class name, or, if all labels are integers, an index from 0 into a class-names file.
`split` (train, val or test) is given for every image or for none; for none, a recorded seed splits.

Paths are relative to the list's folder and may climb out of it (`../images/cat.jpg`), so that lists can lie
in a folder of their own. Absolute paths are refused: a record's id is its path, and digests of ids must not
depend on the machine.
"""

from __future__ import annotations

import csv
import io
import json
import os
import posixpath
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from vlmprompt.data.files import READABLE, is_image, locate
from vlmprompt.data.records import SPLITS, Dataset, Record
from vlmprompt.data.rows import Row, labels_of, splits_of
from vlmprompt.data.splits import SPLIT_ALIASES, check_coverage, shortened
from vlmprompt.errors import InputError

_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:")


class CsvReader:
    """A CSV file (comma, UTF-8) whose first line names the columns."""

    def load(self, argument: str, *, root: Path | None, class_names_file: Path | None, split_seed: int) -> Dataset:
        """Read the list; images are looked for, not opened. Raises: InputError."""
        return _dataset("csv", argument, _csv_rows, root, class_names_file, split_seed)


class JsonReader:
    """A JSON file: a list of {"path": ..., "label": ..., "split": ...}."""

    def load(self, argument: str, *, root: Path | None, class_names_file: Path | None, split_seed: int) -> Dataset:
        """Read the list; images are looked for, not opened. Raises: InputError."""
        return _dataset("json", argument, _json_rows, root, class_names_file, split_seed)


def _dataset(
    scheme: str,
    argument: str,
    read: Callable[[Path, str], list[Row]],
    root: Path | None,
    class_names_file: Path | None,
    split_seed: int,
) -> Dataset:
    file = locate(argument, root)
    rows = read(file, _text(file))
    if not rows:
        raise InputError(f"list {file} has no images", hint="one image a row: path,label,split")
    names, labels, origin = labels_of(rows, class_names_file, root)
    records = _records(rows, labels, file.parent)
    notes: dict[str, object] = {"path": str(file), "class_names": origin}
    splits, made = splits_of(rows, records, names, split_seed)
    if made is not None:
        notes["split"] = made
    notes["warnings"] = check_coverage(splits, names)
    return Dataset(file.stem, f"{scheme}:{argument}", names, splits, notes=notes)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read list {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"list {file} is not UTF-8 text", hint="save it as UTF-8") from error


def _csv_rows(file: Path, text: str) -> list[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = [name.strip().lower() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        if not {"path", "label"} <= set(columns):
            raise InputError(
                f"the first line of {file} does not name the columns path and label",
                hint="make it: path,label,split (or path,label)",
            )
        return [_csv_row(f"{file}, line {reader.line_num}", values) for values in reader]
    except csv.Error as error:
        where = f"{file}, line {reader.line_num + 1}"  # where the row begins that could not be read
        raise InputError(f"{where}: {error}", hint="check its quotes and commas") from error


def _csv_row(where: str, values: dict[str | None, str | None]) -> Row:
    if None in values or None in values.values():
        raise InputError(f"{where} has not as many fields as the first line", hint='quote commas: "a, b"')
    return _row(where, values["path"], values["label"], values.get("split"))


def _json_rows(file: Path, text: str) -> list[Row]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{file}, line {error.lineno}: not JSON, {error.msg}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, lists in lists without end
        raise InputError(f"{file} is no list of images: {error}") from error
    if not isinstance(content, list):
        raise InputError(f"{file} is not a list", hint='expected [{"path": ..., "label": ...}, ...]')
    rows = []
    for i, entry in enumerate(content, 1):
        where = f"{file}, entry {i}"
        if not isinstance(entry, dict) or not {"path", "label"} <= entry.keys():
            raise InputError(f"{where} is not an object with path and label")
        rows.append(_row(where, entry["path"], entry["label"], entry.get("split")))
    return rows


def _row(where: str, path: object, label: object, split: object) -> Row:
    """Check one entry, so that the rest deals with text only."""
    if isinstance(label, int) and not isinstance(label, bool):
        label = str(label)
    if not isinstance(path, str) or not path.strip():
        raise InputError(f"{where} has no path")
    if not isinstance(label, str) or not label.strip():
        raise InputError(f"{where} has no label", hint="a class name, or an integer with --class-names FILE")
    part = "" if split is None else str(split).strip().lower()
    if part and part not in SPLIT_ALIASES:
        raise InputError(f"{where} has the unknown split {split!r}", hint=f"one of {', '.join(SPLITS)}")
    return Row(where, path.strip(), label.strip(), SPLIT_ALIASES.get(part, ""))


def _records(rows: Sequence[Row], labels: Sequence[int], folder: Path) -> tuple[Record, ...]:
    records, missing = [], []
    first: dict[str, Row] = {}
    for row, label in zip(rows, labels, strict=True):
        path = _relative(row)
        if not is_image(path):
            raise InputError(f"{row.where}: {row.path} is not an image", hint=READABLE)
        other = first.setdefault(path, row)
        if other is not row:
            message = f"{row.where} has the same image as {other.where}: {path}"
            raise InputError(message, hint="list each image once")
        if not os.path.isfile(folder / path):  # noqa: PTH113 (Path.is_file takes twice as long)
            missing.append(row.path)
        records.append(Record(path, label, folder / path))
    if missing:
        raise InputError(
            f"{len(missing)} of {len(rows)} listed images are missing: {shortened(missing)}",
            hint=f"paths are relative to the list's folder, {folder.resolve()}",
        )
    return tuple(records)


def _relative(row: Row) -> str:
    """The normalised path with forward slashes; it is the record's id."""
    if _ABSOLUTE.match(row.path):
        message = f"{row.where}: path {row.path} is absolute"
        raise InputError(message, hint="write paths relative to the list's folder")
    return posixpath.normpath(row.path.replace("\\", "/"))

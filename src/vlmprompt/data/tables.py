"""Rows of CSV and JSON files: bytes to text, columns, delimiters."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmprompt.data.options import as_value
from vlmprompt.data.rows import TRUTH_VALUES, Row
from vlmprompt.data.split_names import split_named, split_within
from vlmprompt.errors import InputError, UsageError
from vlmprompt.regular import regular

COLUMNS = ("path", "label", "split")
JSON_OPTIONS = (*COLUMNS, "encoding")
CSV_OPTIONS = (*JSON_OPTIONS, "delimiter")
DELIMITERS = (",", ";", "\t", "|")
# What columns are often called; only to suggest them.
_OFTEN = {
    "path": ("filename", "file_name", "file", "filepath", "file_path", "image", "image_path", "img", "img_path"),
    "label": ("class", "class_name", "classname", "category", "species", "name", "target", "label_name", "class_id"),
}


def csv_rows(file: Path, options: Mapping[str, str]) -> list[Row]:
    """The rows of a CSV file.

    Raises:
        UsageError: a delimiter or encoding that is none.
        InputError: the file cannot be read, or its first line does not name the columns.
    """
    text, columns = _text(file, options), _columns(options)
    delimiter = _delimiter(text, columns, options.get("delimiter"))
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    try:
        names = [name.strip().lower() for name in reader.fieldnames or ()]
        reader.fieldnames = names
        _require(file, names, columns, options)
        entries = [(f"{file}, line {reader.line_num}", _fitting(file, reader.line_num, row)) for row in reader]
    except csv.Error as error:
        where = f"{file}, line {reader.line_num + 1}"  # where the row begins that could not be read
        raise InputError(f"{where}: {error}", hint="check its quotes and delimiters") from error
    if columns["split"] not in names:
        _ask_about_split(file, [row for _, row in entries], set(names) - set(columns.values()))
    return [_row(where, *(row.get(columns[key]) for key in COLUMNS)) for where, row in entries]


def json_rows(file: Path, options: Mapping[str, str]) -> list[Row]:
    """The rows of a JSON file: a list of objects.

    Raises:
        UsageError: an encoding that is none.
        InputError: the file cannot be read, or is no list of objects with the keys.
    """
    columns = {key: options.get(key, key) for key in COLUMNS}
    try:
        content = json.loads(_text(file, options))
    except json.JSONDecodeError as error:
        raise InputError(f"{file}, line {error.lineno}: not JSON, {error.msg}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, lists in lists without end
        raise InputError(f"{file} is no list of images: {error}") from error
    if not isinstance(content, list):
        raise InputError(f"{file} is not a list", hint='expected [{"path": ..., "label": ...}, ...]')
    rows = []
    for i, entry in enumerate(content, 1):
        where = f"{file}, entry {i}"
        if not isinstance(entry, dict) or not {columns["path"], columns["label"]} <= entry.keys():
            hint = _suggestion(entry) if isinstance(entry, dict) else None
            raise InputError(f"{where} is not an object with {columns['path']} and {columns['label']}", hint=hint)
        rows.append(_row(where, *(entry.get(columns[key]) for key in COLUMNS)))
    if "split" not in options and not any(row.split for row in rows):
        _ask_about_split(file, content, {key for entry in content for key in entry} - set(columns.values()))
    return rows


def _text(file: Path, options: Mapping[str, str]) -> str:
    encoding = options.get("encoding")
    try:
        data = regular(file).read_bytes()
        if encoding is None:
            encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        return data.decode(encoding)
    except OSError as error:
        raise InputError(f"cannot read list {file}: {error.strerror}") from error
    except LookupError as error:
        raise UsageError(f"there is no encoding {encoding!r}", hint="such as ?encoding=cp1252 or utf-16") from error
    except UnicodeError as error:
        kind = "UTF-8" if encoding == "utf-8-sig" else encoding
        hint = "save it as UTF-8, or say what it is after the path: ?encoding=cp1252"
        raise InputError(f"list {file} is not {kind} text", hint=hint) from error


def _columns(options: Mapping[str, str]) -> dict[str, str]:
    """What each column is called, in lower case."""
    return {key: options.get(key, key).strip().lower() for key in COLUMNS}


def _delimiter(text: str, columns: Mapping[str, str], given: str | None) -> str:
    """The one given, or the first by which the first line names the columns; a comma where none does."""
    if given is not None:
        sign = "\t" if given.lower() in ("tab", "\\t") else given
        if len(sign) != 1 or sign in '"\r\n':
            raise UsageError(f"delimiter {given!r} is not one sign", hint="such as ?delimiter=; or ?delimiter=tab")
        return sign
    return next((sign for sign in DELIMITERS if {columns["path"], columns["label"]} <= _heads(text, sign)), ",")


def _heads(text: str, delimiter: str) -> set[str]:
    try:
        first = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error:
        return set()
    return {name.strip().lower() for name in first}


def _require(file: Path, names: Sequence[str], columns: Mapping[str, str], options: Mapping[str, str]) -> None:
    wanted = [columns["path"], columns["label"], *([columns["split"]] if "split" in options else [])]
    if set(wanted) <= set(names):
        twice = [name for name in wanted if names.count(name) > 1]
        if twice:
            raise InputError(f"the first line of {file} names the column {twice[0]} twice", hint="rename one of them")
        return
    if len(names) == 1:
        names = next((sorted(found) for sign in DELIMITERS[1:] if len(found := _heads(names[0], sign)) > 1), names)
    raise InputError(
        f"the first line of {file} does not name the columns {' and '.join(wanted)}, but {', '.join(names) or 'none'}",
        hint=f"make it: path,label,split (or path,label); {_suggestion(names)}",
    )


def _suggestion(names: Iterable[str]) -> str:
    """How to say which columns are which."""
    names = [name.lower() for name in names]
    found = {key: next((name for name in often if name in names), "COLUMN") for key, often in _OFTEN.items()}
    return f"or say after the path which is which: ?path={found['path']}&label={found['label']}"


def _fitting(file: Path, line: int, row: dict[str | None, str | None]) -> Mapping[str | None, str | None]:
    if None in row or None in row.values():
        hint = 'quote what holds the delimiter: "a, b"'
        raise InputError(f"{file}, line {line} has not as many fields as the first line", hint=hint)
    return row


def _ask_about_split(file: Path, rows: Sequence[Mapping[Any, object]], names: Iterable[str]) -> None:
    """Stop where the splits stand in a column of another name: drawing one would mix them."""
    for name in sorted(names):
        words = sorted({str(row.get(name, "")).strip() for row in rows})
        said = {split_named(word) for word in words}
        option = f"?split={as_value(name)}" if len(said) > 1 and None not in said else _by_truth(name, words)
        if option:
            raise InputError(
                f"column {name!r} of {file} names splits, but nothing says that it is the split",
                hint=f"say so after the path: {option}; or remove that column",
            )


def _by_truth(name: str, words: Sequence[str]) -> str:
    """How to say that a column of truth values is the split, where its name says so: is_valid, "test?"."""
    split, values = split_within(name), {word.lower() for word in words}
    if split is None or values not in TRUTH_VALUES:
        return ""
    no, yes = sorted(values)  # false before true, 0 before 1, n before y
    return f"?split={as_value(name)}&{split}={yes}&{'test' if split == 'train' else 'train'}={no}"


def _row(where: str, path: object, label: object, split: object) -> Row:
    """Check one entry, so that the rest deals with text only."""
    if isinstance(label, int) and not isinstance(label, bool):
        label = str(label)
    if not isinstance(path, str) or not path.strip():
        raise InputError(f"{where} has no path")
    if not isinstance(label, str) or not label.strip():
        raise InputError(f"{where} has no label", hint="a class name, or an integer with --class-names FILE")
    return Row(where, path.strip(), label.strip(), "" if split is None else str(split).strip())

"""`csv:<file>` and `json:<file>`: lists of images, `path,label,split`.

CSV has a first line with the column names; JSON is a list of objects with these keys. `?path=`, `label=` and `split=`
name other columns; the rest are ignored. `label` is a class name, or, if all labels are integers, an index from 0
into a class-names file. `split` is given for every image or for none; for none, a recorded seed splits. `?train=`,
`val=` and `test=` say what splits are called where their names do not (several with commas).

Paths are relative to the list's folder and may climb out of it (`../images/cat.jpg`), so that lists can lie in a
folder of their own. Absolute ones must lie below the list's folder or the root, unless any are allowed: a record's
id is its path, and digests of ids should not depend on the machine.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vlmprompt.data.files import READABLE, is_image, locate
from vlmprompt.data.missing import UNLABELLED, left_out
from vlmprompt.data.options import split_argument
from vlmprompt.data.records import SPLITS, Dataset, Record
from vlmprompt.data.rows import Row, labels_of, splits_of
from vlmprompt.data.split_names import split_named
from vlmprompt.data.splits import check_coverage, shortened
from vlmprompt.data.tables import CSV_OPTIONS, JSON_OPTIONS, csv_rows, json_rows
from vlmprompt.errors import InputError

_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:")


class _ListReader:
    """What both kinds share."""

    upright = True
    takes_whole = True
    reaches_outside = True
    scheme: str
    columns: tuple[str, ...]
    read: Callable[[Path, Mapping[str, str]], list[Row]]

    def look(self, argument: str, *, root: Path | None) -> None:
        """See `data.load.DatasetReader`."""
        place, _ = split_argument(self.scheme, argument, (*self.columns, *SPLITS), root)
        locate(place, root)

    def load(
        self,
        argument: str,
        *,
        root: Path | None,
        class_names_file: Path | None,
        split_seed: int | None,
        allow_outside: bool = False,
    ) -> Dataset:
        """Read the list; images are looked for, not opened.

        Args:
            allow_outside: accept absolute paths outside of the list's folder and the root.

        Raises:
            UsageError: an option after `?` is unknown or has a value that is not allowed.
            InputError: the list cannot be read, lacks columns, or names images, labels or splits that are not known.
        """
        place, options = split_argument(self.scheme, argument, (*self.columns, *SPLITS), root)
        file = locate(place, root)
        rows = type(self).read(file, options)
        if not rows:
            raise InputError(f"list {file} has no images", hint="one image a row: path,label,split")
        rows, unlabelled = _with_labels(rows)
        rows, warnings = _with_splits(rows, options)
        names, labels, origin = labels_of(rows, class_names_file, root)
        places = [folder for folder in (file.parent, root) if folder is not None]
        records = _records(rows, labels, file.parent, None if allow_outside else places)
        notes: dict[str, object] = {"path": str(file), "class_names": origin}
        splits, made = splits_of(rows, records, names, split_seed)
        if made is not None:
            notes["split"] = made
        notes["warnings"] = unlabelled + warnings + check_coverage(splits, names)
        return Dataset(file.stem, f"{self.scheme}:{argument}", names, splits, notes=notes)


class CsvReader(_ListReader):
    """A CSV file whose first line names the columns path, label and perhaps split.

    After `?` stand, separated by `&`: `path`, `label`, `split` (columns, where they are called otherwise), `train`,
    `val`, `test` (what that split is called there), `delimiter` (one sign or "tab"; else found) and `encoding`
    (else UTF-8): `csv:list.csv?path=filename&label=class&encoding=cp1252`.
    """

    scheme, columns, read = "csv", CSV_OPTIONS, staticmethod(csv_rows)


class JsonReader(_ListReader):
    """A JSON file: a list of {"path": ..., "label": ..., "split": ...}.

    After `?` stand, separated by `&`: `path`, `label`, `split` (keys, where they are called otherwise), `train`,
    `val`, `test` (what that split is called there) and `encoding` (else UTF-8).
    """

    scheme, columns, read = "json", JSON_OPTIONS, staticmethod(json_rows)


def _with_labels(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """The rows but for those marked as unlabelled, and a warning that names these.

    Raises:
        InputError: none is left.
    """
    kept = [row for row in rows if row.label not in UNLABELLED]
    if not kept:
        raise InputError(f"no image has a label: {rows[0].where} has {rows[0].label}", hint="name its class")
    return kept, left_out({"no label": [row.where for row in rows if row.label in UNLABELLED]})


def _with_splits(rows: Sequence[Row], options: Mapping[str, str]) -> tuple[list[Row], list[str]]:
    """The rows with the splits that their words stand for, and a warning of what is left out.

    Raises:
        InputError: a word stands for no split, and the options name none either.
    """
    given = {word.strip().lower(): split for split in SPLITS for word in options.get(split, "").split(",") if word}
    known, others = [], Counter[str]()
    for row in rows:
        word = row.split.lower()
        said = split_named(row.split)
        split = given.get(word) or ("" if not word else said if said not in given.values() else None)
        if split is not None:
            known.append(replace(row, split=split))
        elif not given:
            hint = f"one of {', '.join(SPLITS)}; or say what it is: ?train=NAME&test=NAME"
            raise InputError(f"{row.where} has the unknown split {row.split!r}", hint=hint)
        else:
            others[row.split] += 1
    if not known:
        words = shortened([repr(word) for word in others])
        raise InputError(f"no image is in any of the splits named; there are {words}", hint="check ?train= and ?test=")
    return known, [f"{n} images of split {word!r} are left out" for word, n in others.items()]


def _records(
    rows: Sequence[Row], labels: Sequence[int], folder: Path, places: Sequence[Path] | None
) -> tuple[Record, ...]:
    """Args: places: where absolute paths may lead; None: anywhere."""
    records, missing = [], []
    first: dict[str, Row] = {}
    for row, label in zip(rows, labels, strict=True):
        path = _id(row, folder, places)
        if not is_image(path):
            raise InputError(f"{row.where}: {row.path} is not an image", hint=READABLE)
        _check_repeated(row, first.setdefault(path, row))
        if not os.path.isfile(folder / path):  # noqa: PTH113 (Path.is_file takes twice as long)
            missing.append(row.path)
        records.append(Record(path, label, folder / path))
    if missing:
        raise InputError(
            f"{len(missing)} of {len(rows)} listed images are missing: {shortened(missing)}",
            hint=f"paths are relative to the list's folder, {folder.resolve()}",
        )
    return tuple(records)


def _check_repeated(row: Row, first: Row) -> None:
    """A list may name an image twice, which is told before training; not with two labels, nor to be split by us."""
    if first is row or (row.split and first.label == row.label):
        return
    message = f"{row.where} has the same image as {first.where}: {row.path}"
    raise InputError(message, hint="list each image once")


def _id(row: Row, folder: Path, places: Sequence[Path] | None) -> str:
    """The normalised path with forward slashes, relative to the list's folder; it is the record's id."""
    if not _ABSOLUTE.match(row.path):
        return posixpath.normpath(row.path.replace("\\", "/"))
    path = Path(row.path)
    if path.is_absolute() and (places is None or any(_below(path, place) for place in places)):
        inside = any(_below(path, place) for place in places or (folder,))
        return Path(os.path.relpath(path, folder.absolute())).as_posix() if inside else path.as_posix()
    raise InputError(
        f"{row.where}: path {row.path} is absolute",
        hint="write paths relative to the list's folder, name the images' parent folder with --root, or allow any "
        "with --allow-outside",
    )


def _below(path: Path, place: Path) -> bool:
    return Path(os.path.normpath(path)).is_relative_to(place.absolute()) or path.resolve().is_relative_to(
        place.resolve()
    )

"""Files of tables, looked into before the package `datasets` reads them, where it takes them wrongly without a word.

`datasets` (5.2.0) finds the split of a file by words in any part of its path, classes' folders included, and gives
all files of a data set the class names of the first. So the files of local data sets are given to it by split, files
that name their classes otherwise are read as tables of their own, and what cannot be told apart is refused.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from vlmprompt.data.files import is_image
from vlmprompt.data.parts import check_parts
from vlmprompt.data.split_names import split_word
from vlmprompt.data.splits import shortened
from vlmprompt.errors import InputError

Files = Mapping[str, Sequence[str]]  # split, as it is called there -> paths or URLs
KINDS = {".parquet": "parquet", ".arrow": "arrow"}
# What `datasets` takes for the name of a split, if such signs, digits or nothing stand around it.
_WORDS = {"train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval", "evaluation"}
_BETWEEN = re.compile(r"[-._ 0-9]+")
_COUNTED = re.compile(r"(\w+)-\d+-of-\d+\b.*")
_LOCAL_COPY = "hf download NAME --repo-type dataset --local-dir DIR, then --data folder:DIR"


def files_by_split(folder: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """The split of each table of a folder, by our rules: what its folder is called, or else its name says.

    Args:
        names: relative to the folder, with forward slashes.

    Raises:
        InputError: parts are missing, a file says no split beside others that do, or files of one split lie in
            several folders.
    """
    check_parts(names)
    said = {name: _called(PurePosixPath(name)) for name in sorted(names)}
    silent = [name for name, split in said.items() if not split]
    if silent and len(silent) < len(said):
        raise InputError(
            f"{silent[0]} in {folder} does not say its split, others do", hint="name it train, val or test"
        )
    files: dict[str, list[str]] = {}
    for name, split in said.items():
        files.setdefault(split or "train", []).append(name)
    for split, parts in files.items():
        places = sorted({name.rpartition("/")[0] for name in parts})
        if len(places) > 1:
            raise InputError(
                f"{split} files of {folder} lie in several folders: {', '.join(places)}", hint="name one: hf:FOLDER"
            )
    return {split: [str(folder / name) for name in parts] for split, parts in files.items()}


def _called(name: PurePosixPath) -> str:
    inner = split_word(name.parent / "x") if len(name.parts) > 1 else ""
    counted = _COUNTED.fullmatch(name.name)
    return inner or (counted[1] if counted else split_word(PurePosixPath(name.name)))


def read_files(files: Files, kind: str) -> dict[str, list[Any]]:
    """The tables of each split, in the order of its files: a new one where the names of classes change.

    Raises:
        InputError: no file has rows.
    """
    import datasets

    tables: dict[str, list[Any]] = {}
    for split, names in files.items():
        filled = [file for file in names if _has_rows(file, kind)]
        for _, run in groupby(filled, key=lambda file: class_names(file, kind)):
            escaped = [glob.escape(file) for file in run]
            tables.setdefault(split, []).append(datasets.load_dataset(kind, data_files={split: escaped}, split=split))
    if not tables:
        raise InputError(f"there are no rows in {shortened([file for names in files.values() for file in names])}")
    return tables


def _has_rows(file: str, kind: str) -> bool:
    """Whether a parquet file has rows: the library has no table of none."""
    import fsspec
    import pyarrow.parquet as pq

    if kind != "parquet":
        return True
    with fsspec.open(file, "rb") as content:
        return bool(pq.read_metadata(content).num_rows)


def class_names(file: str, kind: str) -> dict[str, tuple[str, ...]]:
    """What a file calls the classes of its columns, by column; nothing of columns that name none."""
    import datasets

    return names_of(datasets.Features.from_arrow_schema(_schema(file, kind)))


def names_of(features: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The class names of columns of classes."""
    return {column: tuple(f.names) for column, f in features.items() if type(f).__name__ == "ClassLabel"}


def _schema(file: str, kind: str) -> Any:
    import fsspec
    import pyarrow as pa
    import pyarrow.parquet as pq

    with fsspec.open(file, "rb") as content:
        if kind == "parquet":
            return pq.read_schema(content)
        try:
            return pa.ipc.open_stream(content).schema
        except pa.ArrowInvalid:
            content.seek(0)
            return pa.ipc.open_file(content).schema


def check_splits(files: Files, base: str) -> None:
    """Refuse a division into splits that the package `datasets` has got wrong, or may have.

    Args:
        base: the folder or URL that the files lie below.

    Raises:
        InputError: a file is in two splits, or nothing but the folders of classes says a split.
    """
    seen: dict[str, str] = {}
    for split, names in files.items():
        for file in names:
            other = seen.setdefault(file, split)
            if other != split:
                raise _doubtful(f"{file} is taken for {other} and for {split}")
    images = [file for file in seen if is_image(file)]
    if images and not any(map(_is_metadata, seen)) and all(_class_says(_relative(file, base)) for file in images):
        raise _doubtful(
            f"{images[0]} is taken for {seen[images[0]]} because of the name of its class; others are left out"
        )


def _class_says(image: PurePosixPath) -> bool:
    """Whether the folder of an image's class has the word of a split, and no folder above it has one."""
    *above, innermost = [not _WORDS.isdisjoint(_BETWEEN.split(part.lower())) for part in ("", *image.parts[:-1])]
    return innermost and not any(above)


def _relative(file: str, base: str) -> PurePosixPath:
    return PurePosixPath(re.sub(r"^hf://datasets/[^@]*@[^/]*/", "", file).removeprefix(base).lstrip("/"))


def _is_metadata(file: str) -> bool:
    return PurePosixPath(file).name.startswith("metadata.")


def _doubtful(problem: str) -> InputError:
    return InputError(problem, hint=f"read a local copy, by the names of its folders: {_LOCAL_COPY}")

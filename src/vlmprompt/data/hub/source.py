"""Where the tables of a data set come from: the hub, a data set saved on disk, or files of tables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vlmprompt.data.files import files_below, is_image
from vlmprompt.data.hub.files import KINDS, Files, check_splits, class_names, files_by_split, names_of, read_files
from vlmprompt.data.split_names import split_named
from vlmprompt.data.splits import shortened
from vlmprompt.errors import InputError, VlmPromptError
from vlmprompt.hub_client import Unreached, one_attempt, unreachable
from vlmprompt.regular import named_path

Tables = Mapping[str, list[Any]]
SAVED = ("dataset_dict.json", "state.json")  # what `save_to_disk` leaves
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # images with columns of their own
MOST_SHOWN = 400  # characters of an error of the library
READERS = 16  # files of the hub that are looked into at a time
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_DECLARES = re.compile(r"^(configs|dataset_info):", re.MULTILINE)


def local_path(name: str, root: Path | None) -> Path | None:
    """The folder or file that is meant, from the working directory or else from the root; None for one of the hub.

    Raises:
        InputError: there is none, and it cannot be the name of a data set of the hub.
    """
    path = named_path(name)
    found = next((place for place in (path, *([root / path] if root else [])) if place.exists()), None)
    if found is None and (not _HUB_NAME.fullmatch(name) or name.startswith((".", "~", "/"))):
        raise InputError(f"there is no folder {name}", hint="a data set of the hub is called OWNER/NAME")
    return found


def has_class_folders(path: Path) -> bool:
    """Whether a folder holds images sorted into folders and nothing that says more of them."""
    if not path.is_dir() or _is_saved(path) or _declares(path):
        return False
    names = list(files_below(path))
    said = any(name.endswith((*KINDS, *METADATA)) for name in names)
    return not said and any(map(is_image, names))


def open_tables(name: str, path: Path | None, config: str | None, revision: str | None) -> Tables:
    """Split, as it is called there -> the tables that are its rows, one after the other.

    Args:
        path: where it is on disk; None for the hub.

    Raises:
        InputError: the package is missing, or the data set cannot be had or read.
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError("hf: needs the package datasets", hint="pip install 'vlmprompt[hf]'") from error
    try:
        with one_attempt() as unreached:
            if path is not None and _is_saved(path):
                return _as_lists(datasets.load_from_disk(str(path)))
            if path is None or (path.is_dir() and _declares(path)):
                return _built(datasets.load_dataset_builder(str(path or name), config, revision=revision))
            return _undeclared(path, config)
    except VlmPromptError:
        raise
    except Exception as error:  # the library raises its own, those of its file systems and plain ones alike
        raise _unreadable(name, path, error, unreached) from error


def _is_saved(path: Path) -> bool:
    return any((path / file).exists() for file in SAVED)


def _declares(path: Path) -> bool:
    """Whether the data set's card says which files are which split, or what its columns are."""
    card = path / "README.md"
    if not card.is_file():
        return False
    parts = card.read_text(encoding="utf-8", errors="replace").split("---")
    return len(parts) > 2 and not parts[0].strip() and _DECLARES.search(parts[1]) is not None


def _undeclared(path: Path, config: str | None) -> Tables:
    """Files on disk of which no card says anything: by our rules."""
    import datasets

    folder, names = (path, sorted(files_below(path))) if path.is_dir() else (path.parent, [path.name])
    if any(name.endswith(METADATA) for name in names) and any(map(is_image, names)):
        return _listed_images(folder, names)
    for suffix, kind in KINDS.items():
        tables = [name for name in names if name.endswith(suffix)]
        if tables:
            return read_files(files_by_split(folder, tables), kind)
    if any(name.endswith(".tar") for name in names):
        raise InputError(f"{path} holds tar files", hint=f"they are read as shards: --data wds:{path}")
    if any(name.endswith(".zip") for name in names):
        raise InputError(f"{path} holds zip files", hint="unpack them; folders of images are read as they are")
    return _built(datasets.load_dataset_builder(str(path), config))


def _listed_images(folder: Path, names: list[str]) -> Tables:
    """Images with metadata, read as one table and divided by the folders that they lie in.

    Given files by split, the library would put every row of a list that lies above the split folders into each split.
    """
    import datasets

    table = datasets.load_dataset("imagefolder", data_dir=str(folder), data_files={"train": ["**"]}, split="train")
    cells = table.cast_column("image", datasets.Image(decode=False))["image"][:]
    listed = [Path(os.path.relpath(cell["path"], folder)).as_posix() for cell in cells]
    known = set(listed)
    for problem, files in (
        ("listed in the metadata but not there", sorted(known - set(names))),
        ("not listed in the metadata", [name for name in names if is_image(name) and name not in known]),
    ):
        if files:
            hint = "list each image that is there, in file_name, or move it out"
            raise InputError(f"{len(files)} image(s) of {folder} are {problem}: {shortened(files)}", hint=hint)
    tops = [name.partition("/")[0] if "/" in name else "" for name in listed]
    if not any(map(split_named, tops)):
        return {"train": [table]}
    rows: dict[str, list[int]] = {}
    for row, top in enumerate(tops):
        rows.setdefault(top, []).append(row)
    return {top: [table.select(found)] for top, found in rows.items()}


def _built(builder: Any) -> Tables:
    """What a card says, or the library finds, once its files have been looked into."""
    files = {str(split): list(names) for split, names in (builder.config.data_files or {}).items()}
    check_splits(files, str(builder.base_path or ""))
    if builder.name in KINDS.values() and _differ(files, builder):
        return read_files(files, builder.name)
    builder.download_and_prepare()
    return _as_lists(builder.as_dataset())


def _differ(files: Files, builder: Any) -> bool:
    """Whether files that no card describes name their classes otherwise than each other.

    Raises:
        InputError: they name them otherwise than the card.
    """
    paths = [file for names in files.values() for file in names]
    with ThreadPoolExecutor(READERS) as pool:
        spellings = list(pool.map(lambda file: class_names(file, builder.name), paths))
    if not builder.info.features:
        return any(spelt != spellings[0] for spelt in spellings)
    declared = names_of(builder.info.features)
    for file, spelt in zip(paths, spellings, strict=True):
        if spelt and spelt != declared:
            raise InputError(f"{file} names its classes otherwise than README.md", hint="correct one of them")
    return False


def _as_lists(found: Any) -> Tables:
    tables = found if isinstance(found, Mapping) else {"train": found}
    # A saved format would hide columns and give arrays for numbers.
    return {str(split): [table.with_format(None)] for split, table in tables.items()}


def _unreadable(name: str, path: Path | None, error: Exception, unreached: Unreached) -> InputError:
    reason = unreachable(error, unreached)
    if reason is not None:
        return InputError(
            f"cannot load Hugging Face data set {name!r}: {reason}; it is not in the cache",
            hint="get the network back, or --data hf:FOLDER of a copy; check the name, too",
        )
    hint = "check the name, the network, and config= and revision= after '?'"
    if path is not None:
        hint = "read are folders of images, parquet and arrow files, and what save_to_disk has left"
    return InputError(f"cannot load Hugging Face data set {name!r}: {_causes(error)}", hint=hint)


def _causes(error: BaseException) -> str:
    """The error and those that it came from, in one line: the library's first line often says only where."""
    texts: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        text = " ".join(str(cause).split()) or type(cause).__name__
        if not any(text in known for known in texts):
            texts.append(text)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    told = "; ".join(texts)
    return told if len(told) <= MOST_SHOWN else f"{told[:MOST_SHOWN]}..."

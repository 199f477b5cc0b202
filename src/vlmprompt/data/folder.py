"""`folder:<path>`: images sorted into class folders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from vlmprompt.data.files import images_below, locate
from vlmprompt.data.layout import (
    OPTIONS,
    Classes,
    ask_about_splits,
    class_folders,
    depth_of,
    nested_warning,
    split_folders,
)
from vlmprompt.data.names import clean, code_warning, folder_names, read_names
from vlmprompt.data.options import split_argument
from vlmprompt.data.records import Dataset, Record
from vlmprompt.data.splits import Splits, check_coverage, seeded_split, to_measure
from vlmprompt.errors import InputError


class FolderReader:
    """Class folders, within train, val and test folders or in one folder that is split by a recorded seed.

    `folder:photos?train=NAME&val=NAME&test=NAME` says which folders are the splits where their names do not,
    `?depth=2` that classes lie two levels down. Labels follow the sorted folder names. Images may lie at any depth
    of a class folder and are recognised by their names only: a broken one shows when it is decoded. Hidden files and
    sidecars of file managers are skipped; so are files beside the class folders unless they are images. Any other
    file within a class folder is an error, because leaving it out could hide images of an unreadable format.
    """

    upright = True
    takes_whole = True

    def look(self, argument: str, *, root: Path | None) -> None:
        """See `data.load.DatasetReader`."""
        place, options = split_argument("folder", argument, OPTIONS, root)
        _located(place, root)
        depth_of(options)

    def load(
        self, argument: str, *, root: Path | None, class_names_file: Path | None, split_seed: int | None
    ) -> Dataset:
        """Read the folder; no image is opened.

        Raises:
            UsageError: an option after `?` is unknown or has a value that is not allowed.
            InputError: see the module's checks: layout, empty class folder, foreign file, class names.
        """
        place, options = split_argument("folder", argument, OPTIONS, root)
        path, depth = _located(place, root), depth_of(options)
        parts, doubts = split_folders(path, options)
        found = {split: class_folders(folder, depth or 1) for split, folder in (parts or {"": path}).items()}
        if not parts and depth is None:
            ask_about_splits(path, found[""])
        folders, order = _ordered({key for classes in found.values() for key in classes}, class_names_file)
        names, origin = _names(folders, class_names_file, root)
        records = {split: _records(classes, folders, path) for split, classes in found.items()}
        splits: Splits = records
        notes: dict[str, object] = {"path": str(path), "class_names": origin}
        if not parts:
            splits, notes["split"] = seeded_split(records[""], names, split_seed)
        else:
            notes["folders"] = {split: folder.relative_to(path).as_posix() for split, folder in parts.items()}
            if split_seed is None:
                splits, notes["split"] = to_measure(splits)
        doubts += nested_warning(found.values(), depth or 1) + code_warning(names) + _single_warning(folders)
        notes["warnings"] = order + doubts + check_coverage(splits, names)
        return Dataset(path.resolve().name, f"folder:{argument}", names, splits, notes=notes)

    def load_outliers(self, argument: str, *, root: Path | None) -> Dataset:
        """Every image below the folder, at any depth, sorted into classes or not; see `data.load`.

        Raises:
            InputError: there is no such folder, no image in it, or another file.
        """
        path = _located(argument, root)
        return outliers(path, images_below(path, what="OOD set"), f"folder:{argument}")


def _located(argument: str, root: Path | None) -> Path:
    path = locate(argument, root)
    if not path.is_dir():
        raise InputError(f"{path} is a file, not a folder", hint="for lists: csv:<file> or json:<file>")
    return path


def outliers(path: Path, images: Sequence[str], spec: str) -> Dataset:
    """Images below a folder as a test set; the folder that an image lies in stands for its class.

    Args:
        images: relative paths with forward slashes.
    """
    origins = [clean(PurePosixPath(path.resolve().name, name).parent.name) for name in images]
    labels = {name: label for label, name in enumerate(sorted(set(origins)))}
    records = (Record(name, labels[origin], path / name) for name, origin in zip(images, origins, strict=True))
    return Dataset(path.resolve().name, spec, tuple(labels), {"test": tuple(records)}, notes={"path": str(path)})


def _ordered(folders: Iterable[str], names_file: Path | None) -> tuple[list[str], list[str]]:
    """Class folders in the order of labels, and a warning if that is the order of their numbers.

    Whoever writes names for the folders 1 to 10 does not think of 10 as the second, so they are sorted as numbers then.
    """
    by_text = sorted(folders)
    if names_file is None or not all(folder.isdecimal() for folder in by_text):
        return by_text, []
    by_number = sorted(by_text, key=int)
    if by_number == by_text:
        return by_text, []
    first = next(i for i, pair in enumerate(zip(by_number, by_text, strict=True)) if pair[0] != pair[1])
    line = f"line {first + 1} of {names_file} is folder {by_number[first]}, not {by_text[first]}"
    return by_number, [f"class folders are numbers and are taken in that order: {line}"]


def _names(folders: list[str], file: Path | None, root: Path | None) -> tuple[tuple[str, ...], object]:
    """Class names in the order of the folders, and where they are from."""
    if file is None:
        return folder_names([folder.rpartition("/")[2] for folder in folders]), "cleaned from folder names"
    names, origin = read_names(file, root)
    if len(names) != len(folders):
        raise InputError(
            f"{origin['file']} has {len(names)} class names, the data set has {len(folders)} class folders",
            hint=f"one name a line, in the order of the folders: {', '.join(folders[:3])}, ...",
        )
    return names, origin


def _records(classes: Classes, folders: list[str], base: Path) -> tuple[Record, ...]:
    """Records with ids relative to `base`, in the order of labels and ids."""
    labels = {folder: label for label, folder in enumerate(folders)}
    return tuple(
        Record(f"{prefix}/{name}", labels[key], folder / name)
        for key in folders
        if key in classes
        for folder, names in [classes[key]]
        for prefix in [folder.relative_to(base).as_posix()]
        for name in names
    )


def _single_warning(folders: list[str]) -> list[str]:
    """One class is right for a set of outliers; anything else is probably read one level too high."""
    if len(folders) > 1:
        return []
    return [f"there is only one class, {folders[0]!r}: check that the path is not one folder too high"]

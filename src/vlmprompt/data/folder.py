"""`folder:<path>`: images sorted into class folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from vlmprompt.data.files import entries, files_below, images_below, is_image, locate, not_a_file
from vlmprompt.data.names import clean, code_warning, folder_names, read_names
from vlmprompt.data.records import SPLITS, Dataset, Record
from vlmprompt.data.splits import SPLIT_ALIASES, Splits, check_coverage, seeded_split
from vlmprompt.errors import InputError

_LAYOUT = "expected <folder>/<class>/<image> or <folder>/{train,val,test}/<class>/<image>"


class FolderReader:
    """Class folders, within train, val and test folders or in one folder that is split by a recorded seed.

    Labels follow the sorted folder names. Images may lie at any depth of a class folder and are recognised
    by their names only: a broken one shows when it is decoded. Hidden files and sidecars of file managers
    are skipped; so are files beside the class folders unless they are images. Any other file within a class
    folder is an error, because leaving it out could hide images of an unreadable format.
    """

    upright = True

    def load(self, argument: str, *, root: Path | None, class_names_file: Path | None, split_seed: int) -> Dataset:
        """Read the folder; no image is opened.

        Raises:
            InputError: see the module's checks: layout, empty class folder, foreign file, class names.
        """
        path = _located(argument, root)
        parts = _split_folders(path)
        found = {split: _class_folders(folder) for split, folder in (parts or {"": path}).items()}
        folders = sorted({folder.name for classes in found.values() for folder in classes})
        names, origin = _names(folders, class_names_file, root)
        records = {split: _records(classes, folders, path) for split, classes in found.items()}
        splits: Splits = records
        notes: dict[str, object] = {"path": str(path), "class_names": origin}
        if not parts:
            splits, notes["split"] = seeded_split(records[""], names, split_seed)
        doubts = code_warning(names) + _single_warning(folders)
        notes["warnings"] = doubts + check_coverage(splits, names)
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


def _split_folders(path: Path) -> dict[str, Path]:
    """Split -> its folder; empty where the class folders lie in `path` itself.

    "train" can be the name of a class: it is a split only if there are folders in it.
    """
    folders = [entry for entry in entries(path) if entry.is_dir()]
    named = [f for f in folders if f.name.lower() in SPLIT_ALIASES]
    parts: dict[str, Path] = {}
    for folder in named:
        if any(entry.is_dir() for entry in entries(folder)):
            split = SPLIT_ALIASES[folder.name.lower()]
            if split in parts:
                raise InputError(f"{parts[split]} and {folder} are both {split}", hint="remove one, or merge them")
            parts[split] = folder
    if not parts and len(named) < len(folders):
        return {}
    for folder in folders:
        if folder not in parts.values() and any(map(is_image, files_below(folder))):
            raise _stray_folder(folder, parts)
    return {split: parts[split] for split in SPLITS if split in parts}


def _stray_folder(folder: Path, parts: dict[str, Path]) -> InputError:
    """The error for a folder beside the split folders whose images would be left out."""
    if folder.name.lower() in SPLIT_ALIASES:
        return InputError(f"{folder} has images but no class folders, so they have no labels", hint=_LAYOUT)
    beside = ", ".join(part.name for part in parts.values())
    return InputError(f"{folder} has images but is no split, beside {beside}", hint="rename or move it")


def _class_folders(folder: Path) -> dict[Path, list[str]]:
    """Class folder -> the relative paths of its images."""
    found = entries(folder)
    for entry in found:
        if not entry.exists():
            raise not_a_file(entry)
        if is_image(entry.name) and entry.is_file():
            raise InputError(f"image {entry} is in no class folder", hint=_LAYOUT)
    classes = {entry: images_below(entry) for entry in found if entry.is_dir()}
    if not classes:
        raise InputError(f"{folder} has no class folders", hint=_LAYOUT)
    return classes


def _names(folders: list[str], file: Path | None, root: Path | None) -> tuple[tuple[str, ...], object]:
    """Class names in the order of the folders, and where they are from."""
    if file is None:
        return folder_names(folders), "cleaned from folder names"
    names, origin = read_names(file, root)
    if len(names) != len(folders):
        raise InputError(
            f"{origin['file']} has {len(names)} class names, the data set has {len(folders)} class folders",
            hint=f"one name a line, in the order of the sorted folders: {', '.join(folders[:3])}, ...",
        )
    return names, origin


def _records(classes: dict[Path, list[str]], folders: list[str], base: Path) -> tuple[Record, ...]:
    """Records with ids relative to `base`, in the order of labels and ids."""
    labels = {folder: label for label, folder in enumerate(folders)}
    return tuple(
        Record(f"{prefix}/{name}", labels[folder.name], folder / name)
        for folder, names in classes.items()
        for prefix in [folder.relative_to(base).as_posix()]
        for name in names
    )


def _single_warning(folders: list[str]) -> list[str]:
    """One class is right for a set of outliers; anything else is probably read one level too high."""
    if len(folders) > 1:
        return []
    return [f"there is only one class, {folders[0]!r}: check that the path is not one folder too high"]

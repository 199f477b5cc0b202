"""Which folders of a tree are splits and which are classes, and where that is not evident."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vlmprompt.data.files import entries, files_below, images_below, is_image, not_a_file
from vlmprompt.data.records import SPLITS
from vlmprompt.data.split_names import looks_like_splits, split_named
from vlmprompt.data.splits import shortened
from vlmprompt.errors import InputError, UsageError, did_you_mean

EXPECTED = "expected <folder>/<class>/<image> or <folder>/{train,val,test}/<class>/<image>"
OPTIONS = (*SPLITS, "depth")
MAX_DEPTH = 9

Classes = dict[str, tuple[Path, list[str]]]  # path below the split's folder -> the folder, and its images below it


def split_folders(path: Path, options: Mapping[str, str]) -> tuple[dict[str, Path], list[str]]:
    """Split -> its folder, and warnings; no split where the class folders lie in `path` itself.

    "train" can be the name of a class: it is a split only if there are folders in it, or if the user says so.

    Args:
        options: those of the spec; `train`, `val` and `test` name folders.

    Raises:
        InputError: a folder is missing or would be left out in silence, or two are one split.
    """
    given = {split: _named_folder(path, options[split]) for split in SPLITS if split in options}
    folders = [entry for entry in entries(path) if entry.is_dir() and entry not in given.values()]
    parts = dict(given)
    for folder in folders:
        split = split_named(folder.name)
        if split is None or split in given or not any(entry.is_dir() for entry in entries(folder)):
            continue
        if split in parts:
            hint = f"remove one, merge them, or say which it is: ?{split}={folder.name}"
            raise InputError(f"{parts[split]} and {folder} are both {split}", hint=hint)
        parts[split] = folder
    if not parts and any(split_named(folder.name) is None for folder in folders):
        return {}, []
    beside = [f for f in folders if not any(part.is_relative_to(f) for part in parts.values())]
    left_out = [f for f in beside if any(map(is_image, files_below(f)))]
    if left_out and not given:
        raise _stray_folder(left_out[0], parts)
    names = shortened([folder.name for folder in left_out])
    warnings = [f"folders of {path} that are left out, as they are named for no split: {names}"] if left_out else []
    return {split: parts[split] for split in SPLITS if split in parts}, warnings


def class_folders(folder: Path, depth: int) -> Classes:
    """The class folders so many levels below a folder, sorted, with their images at any depth.

    Raises:
        InputError: an image lies above the class folders, or there are none; see `images_below`.
    """
    level = [(entry.name, entry) for entry in _folders(folder)]
    for _ in range(depth - 1):
        level = [(f"{key}/{entry.name}", entry) for key, parent in level for entry in _folders(parent)]
    if not level:
        where = f"{folder} has no class folders" + (f" {depth} levels below" if depth > 1 else "")
        raise InputError(where, hint=EXPECTED)
    return {key: (entry, images_below(entry)) for key, entry in sorted(level)}


def depth_of(options: Mapping[str, str]) -> int | None:
    """The option `depth`; None where it is not given.

    Raises:
        UsageError: it is no number from 1 to 9.
    """
    text = options.get("depth")
    if text is None:
        return None
    if text not in map(str, range(1, MAX_DEPTH + 1)):
        raise UsageError(f"depth {text!r} is no number from 1 to {MAX_DEPTH}", hint="such as ?depth=2")
    return int(text)


def ask_about_splits(path: Path, classes: Classes) -> None:
    """Stop where folders that would be classes may well be splits, or hold some.

    Raises:
        InputError: all of them hold splits, or several folders of the same names; or their own names say splits.
    """
    names = list(classes)
    shared = sorted(set.intersection(*(_sub_folders(images) for _, images in classes.values())))
    inner = {split_named(name) for name in shared} - {None}
    hint = f"say which they are: folder:{path}?train=NAME&test=NAME; ?depth=1 takes them for classes"
    if len(inner) > 1:
        reason = f"hold splits: {shortened(shared)}"
        hint = f"name the folder with the splits in it; {EXPECTED}; ?depth=1 takes {shortened(names)} for classes"
    elif looks_like_splits(names):
        reason = "look like splits, not like classes"
    elif len(shared) > 1 and len(names) > 1:
        reason = f"have the same folders in them, {shortened(shared)}: are they splits?"
    else:
        return
    raise InputError(f"the folders {shortened(names)} of {path} {reason}", hint=hint)


def nested_warning(found: Iterable[Classes], depth: int) -> list[str]:
    """A warning of class folders that hold several folders, which are not told apart."""
    inner: dict[str, set[str]] = defaultdict(set)
    for classes in found:
        for key, (_, images) in classes.items():
            inner[key].update(_sub_folders(images))
    nested = [f"{key} ({shortened(sorted(names))})" for key, names in sorted(inner.items()) if len(names) > 1]
    if not nested:
        return []
    kinds = "a class folder holds" if len(nested) == 1 else f"{len(nested)} class folders hold"
    return [
        f"{kinds} folders that are not told apart: {shortened(nested)}; ?depth={depth + 1} after the path reads each "
        "of them as a class"
    ]


def _sub_folders(images: Sequence[str]) -> set[str]:
    return {name.partition("/")[0] for name in images if "/" in name}


def _folders(folder: Path) -> list[Path]:
    found = entries(folder)
    for entry in found:
        if not entry.exists():
            raise not_a_file(entry)
        if is_image(entry.name) and entry.is_file():
            raise InputError(f"image {entry} is in no class folder", hint=EXPECTED)
    return [entry for entry in found if entry.is_dir()]


def _named_folder(path: Path, name: str) -> Path:
    if Path(name).is_absolute() or not (path / name).is_dir():
        hint = did_you_mean(name, [entry.name for entry in entries(path) if entry.is_dir()])
        raise InputError(f"there is no folder {name} in {path}", hint=hint or EXPECTED)
    return path / name


def _stray_folder(folder: Path, parts: Mapping[str, Path]) -> InputError:
    """The error for a folder beside the split folders whose images would be left out."""
    if split_named(folder.name):
        return InputError(f"{folder} has images but no class folders, so they have no labels", hint=EXPECTED)
    beside = ", ".join(part.name for part in parts.values())
    hint = "rename or move it, or say which folders are the splits: ?train=NAME&test=NAME"
    return InputError(f"{folder} has images but is no split, beside {beside}", hint=hint)

"""Images that somebody names: files, and folders of them. Nothing heavy is imported, and no image is opened."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from vlmprompt.data.files import READABLE, check_utf8, files_below, is_image
from vlmprompt.data.names import clean, read_as, spellings
from vlmprompt.errors import InputError
from vlmprompt.regular import named_path


def image_files(named: Iterable[Path | str]) -> list[Path]:
    """The files that are named, and the images below the folders that are, by their suffixes; each once, in order.

    Raises:
        InputError: there is no such file or folder, or no image in a folder.
    """
    found = [file for path in named for file in _files(named_path(path))]
    check_utf8(map(str, found))
    return list(dict.fromkeys(found))


def label_of(file: Path, class_names: Sequence[str]) -> int | None:
    """The class that a file's folder is called by, as class folders are read; None where it is called otherwise."""
    labels = {read_as(name): label for label, whole in enumerate(class_names) for name in spellings(whole)}
    return labels.get(read_as(clean(file.absolute().parent.name)))


def _files(path: Path) -> list[Path]:
    if not os.path.lexists(path):
        raise InputError(f"there is no {path}", hint="name image files, or folders of them")
    if not path.is_dir():
        return [path]
    images = [path / name for name in sorted(files_below(path)) if is_image(name)]
    if not images:
        raise InputError(f"there is no image in {path}", hint=READABLE)
    return images

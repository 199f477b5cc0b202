"""Pictures put into folders that are called by what they show."""

from __future__ import annotations

import errno
import filecmp
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from vlmprompt.atomic import probe, tidy
from vlmprompt.errors import InputError
from vlmprompt.predict.rejection import UNKNOWN

_WRITE = (
    "free space or change the permissions there, or name another folder with --sort-into; the same command goes on "
    "where this one has ended"
)
How = Literal["copy", "hard", "symbolic"]
MOST_BYTES = 120  # of a folder's name in UTF-8; systems take 255
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|\u2028-\u202e\u2066-\u2069]')
# Windows takes these for devices, whatever follows a dot.
_DEVICES = frozenset(("con", "prn", "aux", "nul", *(f"{name}{i}" for name in ("com", "lpt") for i in range(1, 10))))


def require_place(folder: Path) -> None:
    """Find out now whether pictures can be put below a folder, which need not exist.

    Raises:
        InputError: they cannot.
    """
    probe(folder, _WRITE)


def folder_names(class_names: Sequence[str]) -> list[str]:
    """A folder's name for each class: safe on every system, different for different classes, and never `unknown`.

    Signs that some system forbids become "_"; a name that is taken gets a number.
    """
    taken, names = {UNKNOWN}, []
    for label, name in enumerate(class_names):
        plain = _safe(name) or f"class {label}"
        wanted, number = plain, 1
        while _alike(wanted) in taken:
            number += 1
            wanted = f"{plain}-{number}"
        taken.add(_alike(wanted))
        names.append(wanted)
    return names


class Sorter:
    """Puts pictures into a folder for each class, and those that are rejected into `unknown`.

    Nothing is ever overwritten: where another file has the name, a number is added ("a-2.jpg"). A picture that is
    there already, from an earlier call, stays as it is.

    Args:
        folder: of the folders; made when it is needed.
        how: "copy"; "hard": the same file under a second name; "symbolic": a link to where it is.
    """

    def __init__(self, folder: Path, class_names: Sequence[str], how: How = "copy") -> None:
        self.folder = folder
        self._how = how
        self._names = folder_names(class_names)
        self._tidied: set[Path] = set()

    def put(self, picture: Path, label: int, *, known: bool = True) -> Path:
        """Put a picture where it belongs; gives where it is then.

        Raises:
            InputError: the folder cannot be written to, or the picture is gone.
        """
        place = self.folder / (self._names[label] if known else UNKNOWN)
        try:
            place.mkdir(parents=True, exist_ok=True)
            for target in _targets(place, picture.name):
                if os.path.lexists(target):
                    if self._is_there(picture, target):
                        return target
                elif self._made(picture, target):
                    return target
        except OSError as error:
            raise self._failed(picture, place, error) from error
        raise AssertionError("there is always one more number")

    def _is_there(self, picture: Path, target: Path) -> bool:
        """Whether what has the name is what would be put there."""
        if self._how == "symbolic":
            return target.is_symlink() and str(target.readlink()) == _absolute(picture)
        if target.is_symlink() or not target.is_file():
            return False
        if self._how == "hard":
            return os.path.samefile(picture, target)  # noqa: PTH121
        return filecmp.cmp(picture, target, shallow=False)

    def _made(self, picture: Path, target: Path) -> bool:
        """Put it there; False where somebody else was faster."""
        try:
            if self._how == "symbolic":
                target.symlink_to(_absolute(picture))
            elif self._how == "hard":
                os.link(os.path.realpath(picture), target)
            else:
                _copy(picture, target)
                self._finish(picture, target)
        except FileExistsError:
            return False
        return True

    def _finish(self, picture: Path, target: Path) -> None:
        """Remove what killed calls have left in its folder, known by its age, and only then date the copy back."""
        if target.parent not in self._tidied:
            self._tidied.add(target.parent)
            tidy(target)
        with suppress(OSError):
            shutil.copystat(picture, target)

    def _failed(self, picture: Path, place: Path, error: OSError) -> InputError:
        if self._how == "hard" and error.errno in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            return InputError(
                f"{picture} cannot be linked into {place}: {error.strerror}",
                hint="leave --link out, or make it --link symbolic",
            )
        if not picture.exists():
            return InputError(f"{picture} is gone, and could not be put into {place}")
        return InputError(f"cannot write {place}: {error.strerror or error}", hint=_WRITE)


def _targets(place: Path, name: str) -> Iterator[Path]:
    """The names that a picture may have, in the order in which they are tried."""
    yield place / name
    stem, suffix = os.path.splitext(name)  # noqa: PTH122
    number = 2
    while True:
        end = f"-{number}{suffix}"
        yield place / (_cut(stem, 255 - len(end.encode())) + end)
        number += 1


def _copy(picture: Path, target: Path) -> None:
    """A whole copy, under a name that nobody has yet.

    Raises:
        FileExistsError: somebody has.
    """
    part = target.parent / f".{os.urandom(8).hex()}.vlmprompt-part"
    try:
        shutil.copyfile(picture, part)
        try:
            os.link(part, target)  # unlike a rename it never replaces
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                raise
            if os.path.lexists(target):  # a file system without links
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
            part.rename(target)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _absolute(picture: Path) -> str:
    return os.path.abspath(picture)  # noqa: PTH100 (links on the way stay as somebody has made them)


def _safe(name: str) -> str:
    """A class name as a folder of every system may be called; empty where nothing of it can stay."""
    plain = _UNSAFE.sub("_", unicodedata.normalize("NFC", " ".join(name.split())))
    plain = _cut(plain.strip(". "), MOST_BYTES).rstrip(". ")
    return f"{plain}_" if plain.partition(".")[0].strip().casefold() in _DEVICES else plain


def _cut(text: str, most: int) -> str:
    """As much of the beginning as so many bytes hold."""
    return text.encode()[: max(1, most)].decode(errors="ignore")


def _alike(name: str) -> str:
    """Equal for names that some system takes for one."""
    return unicodedata.normalize("NFKC", name).casefold()

"""Class names as prompts will spell them: cleaned from folder names, or read from a file."""

from __future__ import annotations

import hashlib
import html
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import regex

from vlmprompt.data.files import locate
from vlmprompt.errors import InputError
from vlmprompt.regular import regular

_CODE = re.compile(r"n\d{8}|\d+")
# Words, single digits, signs: as open_clip's tokenizer parts a text.
_PIECE = regex.compile(r"'(?:s|t|re|ve|m|ll|d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")
_SEVERAL = regex.compile(r"\s+\|\s+")
_LEADING_NUMBER = re.compile(r"^\d+\.(?=.)")


def clean(folder: str) -> str:
    """A class name from a folder name.

    A leading number with a full stop goes ("001.Black_footed_Albatross", as in CUB), underscores and runs
    of spaces become one space. Hyphens stay: they belong to words ("t-shirt"). Letter case stays: the
    tokenizer decides. A name of which nothing would be left stays as it is.
    """
    return _spaced(_LEADING_NUMBER.sub("", folder)) or folder


def folder_names(folders: Sequence[str]) -> tuple[str, ...]:
    """Cleaned names of class folders.

    Raises:
        InputError: two folders give the same name.
    """
    names = tuple(clean(folder) for folder in folders)
    _check_distinct(
        names,
        [f"folder {folder!r}" for folder in folders],
        hint="rename a folder, or give the names by --class-names FILE",
    )
    return names


def label_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Class names that a list uses as labels, unchanged.

    Raises:
        InputError: two of them are the same to a text encoder.
    """
    _check_distinct(labels, [f"label {label!r}" for label in labels], hint="spell it one way in the list")
    return tuple(labels)


def read_names(file: Path, root: Path | None, *, distinct: bool = True) -> tuple[tuple[str, ...], dict[str, str]]:
    """Names from a text file, one a line in label order, and what to record of the file.

    Args:
        distinct: two classes must not have the same name.

    Raises:
        InputError: the file cannot be read, has an empty line between names, or a name twice.
    """
    path = locate(str(file), root)
    try:
        content = regular(path).read_bytes()
        lines = [line.strip() for line in content.decode("utf-8-sig").rstrip().splitlines()]
    except OSError as error:
        raise InputError(f"cannot read class names from {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"class names in {path} are not UTF-8 text", hint="save it as UTF-8") from error
    if "" in lines or not lines:
        raise InputError(
            f"{path}, line {lines.index('') + 1 if lines else 1} has no class name", hint="one name a line"
        )
    for number, line in enumerate(lines, 1):
        check_several(line, f"{path}, line {number}")
    where = [f"line {i} of {path}" for i in range(1, len(lines) + 1)]
    if distinct:
        _check_distinct(lines, where, hint="make the names differ, such as 'crane bird' and 'construction crane'")
    return tuple(lines), {"file": str(path), "sha256": hashlib.sha256(content).hexdigest()}


def code_warning(names: Sequence[str]) -> list[str]:
    """A warning where no name is a word: a text encoder can make nothing of numbers and WordNet ids."""
    if not all(_CODE.fullmatch(name) for name in names):
        return []
    return [f"names such as {names[0]!r} mean nothing to a text encoder; give names by --class-names FILE"]


def read_as(name: str) -> tuple[str, ...]:
    """A class name as CLIP's tokenizer reads it: two of one reading are one class to a text tower.

    The steps of open_clip's `SimpleTokenizer`: ftfy mends what encodings did to the text (and composes accents, takes
    full-width letters for plain ones), HTML entities are resolved twice, spaces are evened out, letters lower; then
    words, single digits and runs of signs stand apart, whatever is between them. Underscores are spaces in prompts.
    """
    text = _spaced(name)
    if not (text.isascii() and text.isprintable() and "&" not in text):
        import ftfy  # a fifth of a second, and most names are plain

        text = _spaced(html.unescape(html.unescape(ftfy.fix_text(text))))
    return tuple(_PIECE.findall(text.lower()))


def spellings(name: str) -> tuple[str, ...]:
    """The names of a class, in order: "car | automobile" has two, any other one."""
    return tuple(part.strip() for part in _SEVERAL.split(name))


def check_several(name: str, where: str) -> None:
    """Refuse a class name that somebody wrote, where its several names are not parted as `spellings` parts them.

    Raises:
        InputError: there is no blank at both sides of a "|", or no name; or the same name twice.
    """
    if any("|" in part or not part for part in spellings(name)):
        raise InputError(f"{where}: {name!r} has a | without a name on both sides", hint="write: car | automobile")
    if len(set(readings(name))) < len(readings(name)):
        raise InputError(f"{where}: {name!r} says the same name twice", hint="names are read without regard to case")


def readings(name: str) -> tuple[tuple[str, ...], ...]:
    """Each name of a class as CLIP's tokenizer reads it, see `read_as`."""
    return tuple(read_as(part) for part in spellings(name))


def shared_names(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """Those of `names` that are also among others, as a tokenizer reads them; of several names one suffices."""
    known = {reading for name in others for reading in readings(name)}
    return [name for name in names if not known.isdisjoint(readings(name))]


def labels_by_name(names: Sequence[str], known: Sequence[str]) -> list[int | None]:
    """For each name its place among the known ones, as a tokenizer reads them; None for one that is not there.

    Of a class with several names one suffices, on either side. A name that stands several times on both sides
    ("missile" in ImageNet) has its places in order.
    """
    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, name in enumerate(known):
        for reading in readings(name):
            places[reading].append(place)
    found: list[int | None] = []
    met: Counter[tuple[str, ...]] = Counter()
    for name in names:
        own = readings(name)
        reading = next((one for one in own if one in places), own[0])
        mine = places.get(reading)
        found.append(mine[min(met[reading], len(mine) - 1)] if mine else None)
        met[reading] += 1
    return found


def _check_distinct(names: Sequence[str], origins: Sequence[str], *, hint: str) -> None:
    """Names must differ as CLIP's tokenizers read them."""
    first: dict[tuple[str, ...], tuple[int, str]] = {}
    for i, part in ((i, part) for i, name in enumerate(names) for part in spellings(name)):
        reading = read_as(part)
        other, before = first.setdefault(reading, (i, part))
        if other != i:
            spelling = "" if part.isascii() and before.isascii() else f": {before!a} and {part!a}"
            message = f"{origins[other]} and {origins[i]} both name the class {part!r}{spelling}"
            raise InputError(message, hint=hint)


def _spaced(name: str) -> str:
    return " ".join(name.replace("_", " ").split())

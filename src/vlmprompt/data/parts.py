"""Files that are numbered parts: `train-00002-of-00010.parquet` says how many there are, `train-00002.tar` does not."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from vlmprompt.data.splits import shortened
from vlmprompt.errors import InputError

MOST = 100_000  # numbers apart, of what is taken for one series
_NUMBERED = re.compile(r"(.*?)(\d+)(\D*)", re.DOTALL)
_PART = re.compile(r"(.*?)(\d+)-of-(\d+)(.*)", re.DOTALL)


def check_parts(names: Iterable[str]) -> None:
    """Refuse a download that is not complete, by the names of its files.

    Raises:
        InputError: parts are missing; says which.
    """
    missing = [name for group in _groups(names).items() for name in _missing(*group)]
    if missing:
        raise InputError(
            f"{len(missing)} file(s) are missing, by the names of the others: {shortened(missing)}",
            hint="download them too",
        )


def gaps(names: Iterable[str]) -> list[str]:
    """A warning of numbers that are left out between the first and the last, where names are filled up with zeros."""
    found: dict[tuple[str, int, str], set[int]] = defaultdict(set)
    for name in names:
        if (match := _NUMBERED.fullmatch(name)) and not _PART.fullmatch(name):
            found[match[1], len(match[2]), match[3]].add(int(match[2]))
    lacking = [
        f"{before}{i:0{width}}{after}"
        for (before, width, after), numbers in found.items()
        if min(numbers) < 10 ** (width - 1) and max(numbers) - min(numbers) < MOST
        for i in range(min(numbers), max(numbers))
        if i not in numbers
    ]
    if not lacking:
        return []
    are = "file is" if len(lacking) == 1 else "files are"
    return [f"{len(lacking)} {are} not there, by the numbers of the others: {shortened(lacking)}"]


def _groups(names: Iterable[str]) -> dict[tuple[str, str, str], set[str]]:
    """(What stands before the number, the total as written, what stands after it) -> the numbers that are there."""
    found: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for name in names:
        if match := _PART.fullmatch(name):
            found[match[1], match[3], match[4]].add(match[2])
    return found


def _missing(around: tuple[str, str, str], numbers: set[str]) -> list[str]:
    before, total, after = around
    present = {int(number) for number in numbers}
    first = 1 if int(total) in present and 0 not in present else 0  # most count from 0
    width = len(min(numbers))
    lacking = (i for i in range(first, int(total) + first) if i not in present)
    return [f"{before}{i:0{width}}-of-{total}{after}" for i in lacking]

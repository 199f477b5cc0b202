"""Which shards a user means: a file, all below a folder, or those that a pattern names."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from vlmprompt.data.files import files_below, locate
from vlmprompt.data.parts import check_parts
from vlmprompt.data.shards.braces import expanded
from vlmprompt.data.splits import shortened
from vlmprompt.errors import InputError
from vlmprompt.regular import named_path

_SIGNS = re.compile(r"[*?[{}]")  # of a pattern
_COMPRESSED = re.compile(r".*\.(tar\.\w+|tgz|tbz2?|txz|tzst)", re.IGNORECASE)


def find_shards(argument: str, root: Path | None) -> tuple[Path, list[Path]]:
    """The folder that ids are relative to, and the shards: below a folder by name, of a pattern in its order.

    Raises:
        UsageError: the argument is empty, or its braces are no pattern.
        InputError: there are none, some of those that a pattern or a file's name counts are missing, or they
            are compressed.
    """
    path = named_path(argument)
    if not _SIGNS.search(argument) or any((place / path).exists() for place in _places(root)):
        found = locate(argument, root)
        base, shards = (found, _below(found)) if found.is_dir() else (found.parent, [found])
    else:
        base, shards = _of_pattern(path, root)
    if not shards:
        raise InputError(f"there are no shards {argument} in {base.absolute()}", hint="shards are files *.tar")
    check_parts(str(shard) for shard in shards)
    return base, shards


def _places(root: Path | None) -> list[Path]:
    """As `locate` looks: the working directory first, then the root."""
    return [Path()] if root is None else [Path(), root]


def _below(folder: Path) -> list[Path]:
    names = sorted(map(Path, files_below(folder)))
    compressed = [str(name) for name in names if _COMPRESSED.fullmatch(name.name)]
    if compressed:
        raise InputError(
            f"{len(compressed)} shard(s) in {folder} are compressed: {shortened(compressed)}",
            hint="uncompressed tar files are read: gunzip them (or unxz, unzstd, bunzip2)",
        )
    return [folder / name for name in names if name.suffix.lower() == ".tar"]


def _of_pattern(path: Path, root: Path | None) -> tuple[Path, list[Path]]:
    found = [_matches(place, path) for place in _places(root)]
    base, matches = max(found, key=lambda entry: sum(map(bool, entry[1].values())))  # the first of equals
    missing = [name for name, shards in matches.items() if not shards]
    if missing and len(missing) < len(matches):
        raise InputError(
            f"{len(missing)} of {len(matches)} shards {path} are missing in {base.absolute()}: {shortened(missing)}",
            hint="download them too, or name those alone that are there",
        )
    return base, list(dict.fromkeys(shard for shards in matches.values() for shard in shards))


def _matches(place: Path, path: Path) -> tuple[Path, dict[str, list[Path]]]:
    """The folder that a pattern begins with, and for each name that the rest stands for the shards of this name."""
    base = place / path.anchor
    parts = list(path.parts[1:] if path.anchor else path.parts)
    while len(parts) > 1 and (not _SIGNS.search(parts[0]) or (base / parts[0]).is_dir()):
        base /= parts.pop(0)
    return base, {name: _matching(base, name) for name in expanded("/".join(parts))}


def _matching(base: Path, name: str) -> list[Path]:
    if (base / name).is_file():  # whatever signs are in its name
        return [base / name]
    matches = (base / match for match in glob.glob(name, root_dir=base, recursive=True))  # noqa: PTH207 (any depth)
    return sorted(match for match in matches if match.is_file())

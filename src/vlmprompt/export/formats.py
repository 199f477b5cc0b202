"""What a run can be exported to; nothing heavy is imported, so that slips are refused at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from vlmprompt.atomic import probe
from vlmprompt.errors import InputError, UsageError, did_you_mean
from vlmprompt.regular import named_path, regular

OPEN_CLIP_CONFIG = "open_clip_config.json"  # by which a folder of open_clip is known
CLASSES = "classes.safetensors"  # class embeddings in such a folder
SCRIPT_HEAD = '"""Classify pictures: python '
FORCE = "choose another place (--out), or replace it: --force"
_ELSEWHERE = "choose another place (--out)"
_HEAD = 1 << 16  # bytes; what a file is stands at its beginning
_FOLDER_FILES = re.compile(  # of towers, classes and tokenizers
    r"README\.md|classes\.safetensors|open_clip_(config\.json|model\.safetensors)"
    r"|.*token.*\.json|vocab\..*|merges\.txt|.*\.model"
)


@dataclass(frozen=True)
class Format:
    """A kind of export.

    Attributes:
        name: as typed behind `--to`.
        suffix: of the file; empty for a folder.
        packages: modules that it needs beside the core's.
        extra: what installs them.
    """

    name: str
    suffix: str
    packages: tuple[str, ...] = ()
    extra: str = ""


FORMATS: Mapping[str, Format] = {
    kind.name: kind
    for kind in (
        Format("onnx", ".onnx", ("onnx", "onnxruntime", "onnxscript"), "onnx"),
        Format("safetensors", ".safetensors"),
        Format("open_clip", ""),
    )
}


def format_named(name: str) -> Format:
    """A kind of export by its name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in FORMATS:
        raise UsageError(f"nothing is exported to {name!r}", hint=did_you_mean(name, FORMATS))
    return FORMATS[name]


def require_packages(kind: Format) -> None:
    """Refuse a kind of export whose packages are not installed.

    Raises:
        InputError: names the package, and the command that installs it.
    """
    missing = [name for name in kind.packages if find_spec(name) is None]
    if missing:
        raise InputError(
            f"an export to {kind.name} needs the package {missing[0]}, which is not installed",
            hint=f'pip install "vlmprompt[{kind.extra}]"',
        )


def import_packages(kind: Format) -> None:
    """Import what a kind of export needs; takes some seconds.

    Raises:
        InputError: a package is there, but cannot be loaded.
    """
    for name in kind.packages:
        try:
            import_module(name)
        except ImportError as error:
            raise InputError(
                f"the package {name}, which an export to {kind.name} needs, cannot be loaded: {error}",
                hint=f"install it anew: pip install --force-reinstall {name}",
            ) from error


def default_place(kind: Format, run: Path) -> Path:
    """Where an export goes that was given no place: into the working directory, under the run's name."""
    return Path(f"{run.resolve().name}{kind.suffix or '-open_clip'}")


def settled_place(kind: Format, out: Path, *, force: bool) -> Path:
    """Where an export goes.

    Args:
        force: replace an older export; what is none stays all the same.

    Returns:
        The place, with ~ for a home and links followed.

    Raises:
        UsageError: a file's name does not end in the suffix of its kind.
        InputError: something is there that may not be replaced, or nothing can be written there.
    """
    place = named_path(out).resolve()
    if kind.suffix and place.suffix.lower() != kind.suffix and not place.is_dir():
        raise UsageError(
            f"an export to {kind.name} is a file *{kind.suffix}, not {out}", hint=f"--out {out.name}{kind.suffix}"
        )
    if not kind.suffix and Path.cwd().is_relative_to(place):
        raise InputError(f"{place} is the working directory, or holds it", hint="name a folder in it (--out)")
    for own in written(kind, place):
        if own.exists() or own.is_symlink():
            _require_replaceable(kind, place, own, force)
    probe(place.parent)
    return place


def written(kind: Format, place: Path) -> tuple[Path, ...]:
    """The files or the folder that an export may leave."""
    return (place, script_beside(place), weights_beside(place)) if kind.name == "onnx" else (place,)


def script_beside(place: Path) -> Path:
    """The script that runs an ONNX file: `flowers.onnx` has `flowers_predict.py`."""
    return place.with_name(f"{re.sub(r'[^A-Za-z0-9_]+', '_', place.stem)}_predict.py")


def weights_beside(place: Path) -> Path:
    """The weights of an ONNX file that would be too large with them."""
    return place.with_name(f"{place.name}.data")


def _require_replaceable(kind: Format, place: Path, own: Path, force: bool) -> None:
    """Refuse to replace what is there without `force`, and with it what is no older export to this place."""
    what = "folder" if own.is_dir() else "file"
    if kind.suffix and own.is_dir():
        raise InputError(f"{own} is a folder; an export to {kind.name} is a file", hint="name a file in it (--out)")
    if not kind.suffix and not own.is_dir():
        raise InputError(f"{own} is a file; an export to {kind.name} is a folder", hint="name a folder (--out)")
    if not kind.suffix and not any(own.iterdir()):
        return
    if not force:
        raise InputError(f"the {what} {own} is there already", hint=FORCE)
    foreign = _foreign_file(place, own) if kind.suffix else _foreign_in_folder(own)
    if foreign:
        raise InputError(f"the {what} {own} is not replaced: {foreign}", hint=_ELSEWHERE)


def _foreign_file(place: Path, own: Path) -> str:
    """Why a file is not of an older export; empty if it is."""
    if own == weights_beside(place):
        return ""  # means nothing without the file that is replaced
    try:
        with regular(own).open("rb") as opened:
            head = opened.read(_HEAD)
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    if own == script_beside(place):
        if not head.startswith(SCRIPT_HEAD.encode()):
            return "it is no script of an export"
        return "" if repr(place.name).encode() in head else "it belongs to another ONNX file"
    mark = b"vlmprompt" if place.suffix.lower() == ".onnx" else b"checkpoint_digest"
    return "" if not head or mark in head else "it is no export of vlmprompt"


def _foreign_in_folder(folder: Path) -> str:
    """What a folder has that no export has put there, or lacks that each has; empty if there is no such thing."""
    names = sorted(file.name for file in folder.iterdir())
    foreign = [name for name in names if not _FOLDER_FILES.fullmatch(name)]
    if foreign:
        return f"it holds {foreign[0]}, which no export has put there"
    return "" if {OPEN_CLIP_CONFIG, CLASSES} <= set(names) else "it is no export of vlmprompt"

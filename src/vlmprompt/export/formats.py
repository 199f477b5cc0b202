"""What a run can be exported to; nothing heavy is imported, so that slips are refused at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from vlmprompt.atomic import probe
from vlmprompt.errors import InputError, UsageError, did_you_mean
from vlmprompt.regular import named_path

OPEN_CLIP_CONFIG = "open_clip_config.json"  # by which a folder of open_clip is known
FORCE = "choose another place (--out), or replace it: --force"


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


def default_place(kind: Format, run: Path) -> Path:
    """Where an export goes that was given no place: into the working directory, under the run's name."""
    return Path(f"{run.resolve().name}{kind.suffix or '-open_clip'}")


def settled_place(kind: Format, out: Path, *, force: bool) -> Path:
    """Where an export goes.

    Args:
        force: replace an older export.

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
    for own in written(kind, place):
        if own.exists() or own.is_symlink():
            _require_replaceable(kind, own, force)
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


def _require_replaceable(kind: Format, place: Path, force: bool) -> None:
    what = "folder" if place.is_dir() else "file"
    if kind.suffix and place.is_dir():
        raise InputError(f"{place} is a folder; an export to {kind.name} is a file", hint="name a file in it (--out)")
    if not kind.suffix and not place.is_dir():
        raise InputError(f"{place} is a file; an export to {kind.name} is a folder", hint="name a folder (--out)")
    if not kind.suffix and not any(place.iterdir()):
        return
    if not force:
        raise InputError(f"the {what} {place} is there already", hint=FORCE)
    if not kind.suffix and not (place / OPEN_CLIP_CONFIG).exists():
        raise InputError(
            f"the folder {place} holds something else than a model of open_clip, and is not replaced",
            hint="choose another place (--out)",
        )

"""Files that other code has written: read as tensors and plain values, never as a program."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from vlmprompt.backbones.file_kind import PICKLE, PROGRAM, SAFETENSORS, TORCH, file_kind
from vlmprompt.backbones.weights.skipped import ALLOWED
from vlmprompt.errors import InputError
from vlmprompt.regular import regular

MOST_NAMES = 3  # of what a file asks for, in an error


def read_strictly(path: Path, thing: str) -> Mapping[str, Any]:
    """The content of a file that `torch.save` wrote, or of a safetensors file, whatever its name ends in.

    Args:
        thing: what the file is to its reader, for errors: "checkpoint".

    Raises:
        InputError: there is no such file, it is damaged or holds no table, or it names anything beyond tensors,
            plain values, `argparse.Namespace` and what is skipped: reading that would run code of its author's.
    """
    try:
        kind = file_kind(regular(path))
    except FileNotFoundError as error:
        raise InputError(f"there is no {thing} {path}") from error
    except OSError as error:
        raise InputError(f"cannot read {thing} {path}: {error.strerror}") from error
    content = _safetensors(path, thing) if kind == SAFETENSORS else _torch(path, thing, kind)
    if not isinstance(content, Mapping):
        raise InputError(f"{thing} {path} holds a {type(content).__name__}, not a table of tensors")
    return content


def _safetensors(path: Path, thing: str) -> Any:
    try:
        # Copied out of the mapped file, which may change while the tensors are in use.
        return {name: tensor.clone() for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise unreadable(path, thing, f"{SAFETENSORS}, damaged") from error


def _torch(path: Path, thing: str, kind: str) -> Any:
    if kind == PROGRAM:
        raise refused(path, thing, f"is {PROGRAM}")
    if kind not in (TORCH, PICKLE):
        raise unreadable(path, thing, kind)
    with safe_globals(list(ALLOWED)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch asks for reports to its authors
        foreign = _foreign_names(path)
        if foreign:
            raise refused(path, thing, f"asks for {_some(sorted(foreign))}")
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # the strict reader raises many unrelated types on foreign and damaged files
            # Its words are not quoted: they advise to read the file without the safeguard.
            named = re.findall(r"GLOBAL:? (?:GLOBAL )?([\w.]+)", str(error))
            if named:
                raise refused(path, thing, f"asks for {named[0]}") from error
            what = f"{kind}, damaged or with more in it than tensors and plain values"
            raise unreadable(path, thing, what) from error


def _foreign_names(path: Path) -> list[str]:
    """What the file names beyond tensors, plain values and `ALLOWED`, as far as that shows without reading it."""
    try:
        return list(get_unsafe_globals_in_checkpoint(str(path)))
    except Exception:  # an older format, or damaged: the strict reader decides
        return []


def _some(names: Sequence[str]) -> str:
    """The first names, and how many more there are: a pickled model asks for dozens."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def refused(path: Path, thing: str, what: str) -> InputError:
    """A file that could be read only by running something of it."""
    return InputError(
        f"{thing} {path} {what}: refused, as it could run code of its author's",
        hint="save its tensors alone, as safetensors, with a script of your own where you trust it",
    )


def unreadable(path: Path, thing: str, kind: str) -> InputError:
    """A file of another kind, or a damaged one."""
    return InputError(
        f"{thing} {path} cannot be read: it is {kind}", hint="fetch it again, or name the file that torch.save wrote"
    )

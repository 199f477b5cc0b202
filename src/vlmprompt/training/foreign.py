"""Checkpoints of other codes: read as tensors and plain values, never as a program."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from vlmprompt.errors import InputError

# Beside tensors and plain values: what training scripts keep their command line in.
ALLOWED = (argparse.Namespace,)


def read_foreign(path: Path) -> Mapping[str, Any]:
    """The content of a `.pt` file that `torch.save` wrote, or of a `.safetensors` file.

    Raises:
        InputError: there is no such file, it is damaged or holds no table, or it names anything beyond tensors,
            plain values and `argparse.Namespace`: reading that would run code of its author's.
    """
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}")
    content = _safetensors(path) if path.suffix == ".safetensors" else _torch(path)
    if not isinstance(content, Mapping):
        raise InputError(f"checkpoint {path} holds a {type(content).__name__}, not a table of tensors")
    return content


def _safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _torch(path: Path) -> Any:
    with safe_globals(list(ALLOWED)):
        foreign = _foreign_names(path)
        if foreign:
            raise _refused(path, ", ".join(sorted(foreign)))
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # the strict reader raises many unrelated types on foreign and damaged files
            if type(error).__name__ == "UnpicklingError" and "Unsupported" in str(error):
                raise _refused(path, "more than tensors and plain values") from error
            raise _damaged(path, error) from error


def _foreign_names(path: Path) -> list[str]:
    """What the file names beyond tensors, plain values and `ALLOWED`, as far as that shows without reading it."""
    try:
        return list(get_unsafe_globals_in_checkpoint(str(path)))
    except Exception:  # an older format, or damaged: the strict reader decides
        return []


def _refused(path: Path, what: str) -> InputError:
    return InputError(
        f"checkpoint {path} asks for {what}: refused, as it could run code of its author's",
        hint="save its tensors alone, as safetensors, with a script of your own where you trust it",
    )


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"checkpoint {path} cannot be read: {str(error).splitlines()[0] if str(error) else error!r}")

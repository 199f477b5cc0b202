"""Checkpoints of other codes: read as tensors and plain values, never as a program."""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from vlmprompt.backbones.file_kind import PICKLE, PROGRAM, SAFETENSORS, TORCH, file_kind
from vlmprompt.errors import InputError
from vlmprompt.training.checkpoint import HEADER_KEY

# What training scripts save beside tensors and plain values, and nobody here reads: optimisers and schedules (Dassl's
# warm-up keeps the schedule behind it as an object, so that each of its files holds one), metrics as NumPy keeps them.
SKIPPED = (
    *(f"torch.optim.{name}" for name in ("sgd.SGD", "adam.Adam", "adamw.AdamW", "rmsprop.RMSprop", "radam.RAdam")),
    *(f"torch.optim.lr_scheduler.{name}" for name in ("StepLR", "MultiStepLR", "CosineAnnealingLR", "LambdaLR")),
    *(f"dassl.optim.radam.{name}" for name in ("RAdam", "PlainRAdam", "AdamW")),
    *(f"{module}.multiarray.scalar" for module in ("numpy.core", "numpy._core")),
    *(f"numpy.{name}" for name in ("dtype", "dtypes.Float64DType", "dtypes.Float32DType")),
)


class _Skipped:
    """Stands in the place of a `SKIPPED` thing, and forgets what it is given."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _Table(dict[Any, Any]):
    """Stands in the place of `collections.defaultdict`."""

    def __new__(cls, *_: object) -> Any:
        return {}


def _stand_in(base: type, path: str) -> type:
    """A class that goes by the name of another one: nothing of that one is imported or called."""
    module, _, name = path.rpartition(".")
    return type(name, (base,), {"__module__": module})


# Beside tensors and plain values: what training scripts keep their command line in, and stand-ins.
ALLOWED = (
    argparse.Namespace,
    dict,
    _stand_in(_Table, "collections.defaultdict"),
    *(_stand_in(_Skipped, path) for path in SKIPPED),
)


def read_foreign(path: Path) -> Mapping[str, Any]:
    """The content of a `.pt` file that `torch.save` wrote, or of a `.safetensors` file.

    Raises:
        InputError: there is no such file, it is damaged or holds no table, or it names anything beyond tensors,
            plain values, `argparse.Namespace` and what is skipped: reading that would run code of its author's.
    """
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}")
    content = _safetensors(path) if path.suffix == ".safetensors" else _torch(path)
    if not isinstance(content, Mapping):
        raise InputError(f"checkpoint {path} holds a {type(content).__name__}, not a table of tensors")
    return content


def _safetensors(path: Path) -> Any:
    try:
        with safe_open(path, framework="pt") as file:
            ours = HEADER_KEY in (file.metadata() or {})
            content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, the file is no mapping
    except (SafetensorError, OSError) as error:
        kind = file_kind(path)
        raise _unreadable(path, f"{kind}, damaged" if kind == SAFETENSORS else kind) from error
    if ours:
        raise InputError(f"{path} is the checkpoint of a run of this program", hint="evaluate the run's folder instead")
    return content


def _torch(path: Path) -> Any:
    kind = file_kind(path)
    if kind == PROGRAM:
        raise _refused(path, f"is {PROGRAM}")
    if kind not in (TORCH, PICKLE):
        raise _unreadable(path, kind)
    with safe_globals(list(ALLOWED)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch asks for reports to its authors
        foreign = _foreign_names(path)
        if foreign:
            raise _refused(path, f"asks for {', '.join(sorted(foreign))}")
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # the strict reader raises many unrelated types on foreign and damaged files
            # Its words are not quoted: they advise to read the file without the safeguard.
            named = re.findall(r"GLOBAL:? (?:GLOBAL )?([\w.]+)", str(error))
            if named:
                raise _refused(path, f"asks for {named[0]}") from error
            raise _unreadable(path, f"{kind}, damaged or with more in it than tensors and plain values") from error


def _foreign_names(path: Path) -> list[str]:
    """What the file names beyond tensors, plain values and `ALLOWED`, as far as that shows without reading it."""
    try:
        return list(get_unsafe_globals_in_checkpoint(str(path)))
    except Exception:  # an older format, or damaged: the strict reader decides
        return []


def _refused(path: Path, what: str) -> InputError:
    return InputError(
        f"checkpoint {path} {what}: refused, as it could run code of its author's",
        hint="save its tensors alone, as safetensors, with a script of your own where you trust it",
    )


def _unreadable(path: Path, kind: str) -> InputError:
    return InputError(
        f"checkpoint {path} cannot be read: it is {kind}", hint="fetch it again, or name the file that torch.save wrote"
    )

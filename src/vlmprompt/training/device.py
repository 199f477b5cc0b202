"""Where a run computes, and in which precision.

accelerate places the optimiser, scales the loss (fp16) and runs the backward pass. Autocast belongs to the
backbone: only the frozen towers run in reduced precision, cosines and losses stay in fp32, in training as in
evaluation, and the towers stay outside accelerate's wrapping.
"""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator

from vlmprompt.config.device import require_device
from vlmprompt.errors import InputError
from vlmprompt.parallel.group import Group
from vlmprompt.parallel.meeting import joined

PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16"), "mps": ("fp32",)}
ACCELERATE_NAMES = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def resolve_device(name: str) -> torch.device:
    """The device that a name stands for.

    Args:
        name: "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:<index>" or "mps".

    Raises:
        UsageError: not a name of a device.
        InputError: this machine has no such device, or each of several processes would have the same one.
    """
    require_device(name)
    name = _of_several(name, joined())
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(name)
    have = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= have[device.type]:
        raise InputError(
            f"device {name!r} is not available: this machine has {have[device.type]} of its kind",
            hint="use --device auto or --device cpu",
        )
    return device


def require_precision(device: torch.device, precision: str) -> None:
    """Refuse a precision that a device cannot train in.

    Raises:
        InputError: names both, and the next step.
    """
    can = PRECISIONS[device.type]
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        can = ("fp32", "fp16")
    if precision not in can:
        raise InputError(
            f"device {device} cannot train in precision {precision!r}",
            hint=f"use --precision {can[-1]}" + ("" if device.type == "cuda" else ", or a CUDA device"),
        )


def make_accelerator(device: torch.device, precision: str) -> Any:
    """accelerate's handle for a device and precision, with a fresh gradient scaler.

    accelerate keeps both in state that is global to the process: all runs of a process must agree in them.

    Raises:
        InputError: this process has already trained on another device or in another precision, or a launcher has
            started several in a way that is not understood.
    """
    require_precision(device, precision)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    try:
        accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=ACCELERATE_NAMES[precision])
        same = accelerator.device.type == device.type
    except ValueError:  # accelerate's words for "the global state says otherwise"
        same = False
    if not same:
        raise InputError(
            f"this process has already trained on another device or in another precision than {device}, {precision}",
            hint="run it in a process of its own",
        )
    if accelerator.num_processes > 1 and joined().alone:
        raise InputError(
            f"{accelerator.num_processes} processes were launched, and nothing says how they meet",
            hint="start them with torchrun, which sets RANK and WORLD_SIZE",
        )
    return accelerator


def _of_several(name: str, group: Group) -> str:
    """The device of this process among several: each has the card of its number."""
    if group.alone or name == "cpu":
        return name
    if name == "auto" and not torch.cuda.is_available():
        return "cpu"
    if name not in ("auto", "cuda"):
        raise InputError(
            f"all {group.size} processes of this run would use device {name!r}",
            hint="--device cuda gives each a card of its own",
        )
    if not torch.distributed.is_nccl_available():
        raise InputError(
            "this torch has no nccl, by which processes with a card each are connected",
            hint="install a build of torch that has, or use --device cpu",
        )
    return f"cuda:{group.local_rank}"

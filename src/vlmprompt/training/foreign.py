"""Checkpoints of other codes: read as tensors and plain values, never as a program."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlmprompt.backbones.weights.strict import read_strictly
from vlmprompt.errors import InputError
from vlmprompt.training.checkpoint import Checkpoint


def read_foreign(path: Path) -> Mapping[str, Any]:
    """The content of a `.pt` file that `torch.save` wrote, or of a `.safetensors` file.

    Raises:
        InputError: it is a checkpoint of a run of this program; or see `read_strictly`.
    """
    if Checkpoint.lies_at(path):
        raise InputError(f"{path} is the checkpoint of a run of this program", hint="evaluate the run's folder instead")
    return read_strictly(path, "checkpoint")

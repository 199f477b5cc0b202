"""Checkpoints of other codes: read as tensors and plain values, never as a program."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlmprompt.backbones.weights.strict import read_strictly


def read_foreign(path: Path) -> Mapping[str, Any]:
    """The content of a `.pt` file that `torch.save` wrote, or of a `.safetensors` file.

    Raises:
        InputError: see `read_strictly`.
    """
    return read_strictly(path, "checkpoint")

"""From a trained model to the files in the package."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vlmprompt.doodles.clip.parts import IDS, MEAN, ROWS, SPREAD

_TEXT = ("transformer.", "ln_final.", "positional_embedding", "text_projection")


def write_text(model: Any, ids: Sequence[int], folder: Path) -> None:
    """The text tower, with the token rows that it has and the statistics from which the others are drawn."""
    rows_UD = model.token_embedding.weight.detach().half()
    state = {name: tensor.half() for name, tensor in model.state_dict().items() if name.startswith(_TEXT)}
    state |= {
        IDS: torch.tensor(ids, dtype=torch.int32),
        ROWS: rows_UD,
        MEAN: rows_UD.float().mean(0),
        SPREAD: rows_UD.float().std(0),
    }
    _write(state, folder / "text.safetensors")


def read_text(model: Any, ids: Sequence[int], folder: Path) -> None:
    """Give a model the text tower in the folder, to the bit that is stored, and the logit scale of the ViT.

    Raises:
        ValueError: the tower has other token rows.
    """
    state = load_file(folder / "text.safetensors")
    if state.pop(IDS).tolist() != list(ids):
        raise ValueError(f"{folder} has the text tower of another vocabulary: train the ViT first")
    state = {name: tensor for name, tensor in state.items() if name.startswith(_TEXT)} | {
        "token_embedding.weight": state[ROWS],
        "logit_scale": load_file(folder / "vit.safetensors")["logit_scale"],
    }
    model.load_state_dict({**model.state_dict(), **{name: tensor.float() for name, tensor in state.items()}})


def write_image_tower(model: Any, name: str, folder: Path) -> None:
    """The image tower and the logit scale; statistics of batch norms stay in fp32."""
    state = {
        key: tensor.half() if tensor.is_floating_point() and "running" not in key else tensor
        for key, tensor in model.state_dict().items()
        if key.startswith("visual.") or key == "logit_scale"
    }
    _write(state, folder / f"{name}.safetensors")


def _write(state: Mapping[str, Tensor], path: Path) -> None:
    save_file({name: state[name].contiguous() for name in sorted(state)}, path)


def write_provenance(about: Mapping[str, Any], folder: Path) -> None:
    """`provenance.json` beside the weights: how they were made, with the digest and size of each file."""
    files = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        for path in sorted(folder.glob("*.safetensors"))
    }
    text = json.dumps({**about, "files": files}, indent=2) + "\n"
    (folder / "provenance.json").write_text(text, encoding="utf-8")

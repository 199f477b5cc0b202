"""A file of weights: what it is, its tensors by open_clip's names, and the activation where the file betrays it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vlmprompt.backbones.file_kind import PROGRAM, file_kind
from vlmprompt.backbones.weights.archive import ArchiveError, read_archive
from vlmprompt.backbones.weights.hugging_face import clip_tensors, siglip_tensors
from vlmprompt.backbones.weights.kinds import Layout, NotAModelError, layout_of, model_tensors
from vlmprompt.backbones.weights.strict import read_strictly, unreadable
from vlmprompt.errors import InputError
from vlmprompt.regular import regular

THING = "file of weights"
# Numbers that OpenAI's archives carry as tensors, and what a model makes anew.
_OPENAI = frozenset({"input_resolution", "context_length", "vocab_size"})
_NOT_LEARNT = ("attn_mask", "position_ids")


@dataclass(frozen=True)
class Weights:
    """The tensors of a whole model.

    Attributes:
        path: where they lie.
        kind: what the file is, in words, such as "a Hugging Face CLIPModel".
        tensors: by open_clip's names.
        quick_gelu: the activation that they were trained with; None where the file does not say.
    """

    path: Path
    kind: str
    tensors: dict[str, Tensor]
    quick_gelu: bool | None = None


def read_weights(path: Path) -> Weights:
    """The tensors of a model in a file of `torch.save`, safetensors, or a TorchScript archive, of which nothing is run.

    Raises:
        InputError: the file cannot be read, or is something else; says what.
    """
    if path.is_dir():
        raise InputError(f"{THING} {path} is a folder", hint=f"name a file in it, or --backbone local-dir:{path}")
    classes: set[str] = set()
    try:
        if _is_program(path):
            content, classes = read_archive(path)
            own = {name: tensor for name, tensor in content.items() if name.rpartition(".")[2] not in _NOT_LEARNT}
            tensors = model_tensors(own)
        else:
            tensors = model_tensors(read_strictly(path, THING))
        layout = layout_of(tensors)
    except ArchiveError as error:
        raise unreadable(path, THING, f"{PROGRAM} that {error}") from error
    except NotAModelError as error:
        program = f"{PROGRAM} of " if classes else ""
        raise InputError(f"{path} is no CLIP: it holds {program}{error.kind}", hint=error.hint) from error
    return _weights(path, tensors, layout, classes)


def _is_program(path: Path) -> bool:
    try:
        return file_kind(regular(path)) == PROGRAM
    except OSError:  # said by the strict reader
        return False


def _weights(path: Path, tensors: dict[str, Tensor], layout: Layout, classes: set[str]) -> Weights:
    if layout is Layout.HF_CLIP:
        return Weights(path, layout.value, clip_tensors(tensors), _hidden_act(path.parent / "config.json"))
    if layout is Layout.HF_SIGLIP:
        return Weights(path, layout.value, siglip_tensors(tensors))
    openai = tensors.keys() >= _OPENAI
    known = openai or "QuickGELU" in classes
    own = {name: tensor for name, tensor in tensors.items() if name not in _OPENAI}
    if openai:
        return Weights(path, "OpenAI's own archive of CLIP", own, True)
    if classes:
        return Weights(path, f"{PROGRAM} of {layout.value}", own, known)
    return Weights(path, layout.value, own)


def _hidden_act(config: Path) -> bool | None:
    """Whether the towers are said to have QuickGELU, by a configuration that lies beside the weights."""
    try:
        said: Any = json.loads(regular(config).read_text(encoding="utf-8"))
        acts = {said[tower]["hidden_act"] for tower in ("text_config", "vision_config")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {("quick_gelu",): True, ("gelu",): False}.get(tuple(acts))

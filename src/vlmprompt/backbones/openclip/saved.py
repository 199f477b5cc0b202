"""Towers as a folder that open_clip loads, and what it makes of such a folder by itself.

Shapes: B images, H x W pixels, d joint width.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.load import architecture_of
from vlmprompt.backbones.names import FOLDER, HUB
from vlmprompt.backbones.openclip.build import quiet
from vlmprompt.backbones.openclip.clip import Clip
from vlmprompt.backbones.openclip.fit import architectures_of
from vlmprompt.backbones.openclip.tokenizers import tokenizer_of
from vlmprompt.backbones.weights.file import read_weights
from vlmprompt.backbones.weights.folder import OPEN_CLIP_CONFIG, OPEN_CLIP_FILES, open_clip_config, read_folder
from vlmprompt.backbones.weights.hub import fetch_folder
from vlmprompt.errors import CapabilityError, InputError, VlmPromptError
from vlmprompt.regular import named_path

_OWN = (Clip, open_clip.model.CLIP, open_clip.model.CustomTextCLIP, open_clip.CoCa)


def save_model(backbone: Backbone, folder: Path, state: Mapping[str, Tensor] | None = None) -> None:
    """Write description, weights and, where open_clip's package does not hold it, the tokenizer.

    Args:
        state: weights in place of the model's own, under the same names.

    Raises:
        CapabilityError: the towers are none of open_clip's, or nothing describes them.
        OSError: the folder cannot be written.
    """
    config = {"model_cfg": described(backbone), "preprocess_cfg": _images(backbone)}
    (folder / OPEN_CLIP_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    kept = backbone.model.state_dict() if state is None else state
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in kept.items()}
    weights = folder / OPEN_CLIP_FILES[0]
    try:
        save_file(state, weights, {"format": "pt"})
    except SafetensorError as error:  # its own kind for a full disk, too
        raise OSError(str(error).rpartition("I/O error: ")[2]) from error
    weights.chmod((folder / OPEN_CLIP_CONFIG).stat().st_mode)  # safetensors keeps others from reading it
    if config["model_cfg"]["text_cfg"].get("hf_tokenizer_name") and backbone.identity.stand_in is None:
        _save_tokenizer(backbone, folder)


def described(backbone: Backbone) -> dict[str, Any]:
    """open_clip's description of a backbone's towers as they are, another image size included.

    Raises:
        CapabilityError: see `save_model`.
    """
    if not isinstance(backbone.model, _OWN):
        raise CapabilityError(f"the towers of backbone {backbone.spec!r} are none of open_clip's")
    try:
        config = copy.deepcopy(_description(backbone.spec))
    except VlmPromptError as error:
        raise CapabilityError(f"nothing describes the towers of backbone {backbone.spec!r} to open_clip") from error
    if any(type(module).__name__ == "QuickGELU" for module in backbone.model.modules()):
        config["quick_gelu"] = True
    height, width = backbone.preprocess.sides
    config["vision_cfg"]["image_size"] = height if height == width else [height, width]
    return config


def features_by_open_clip(folder: Path, pixels_B3HW: Tensor) -> Tensor:
    """Image features (B,d) of a folder's model, loaded and run by open_clip alone.

    Raises:
        InputError: open_clip cannot load it.
    """
    try:
        with quiet():
            model, _, _ = open_clip.create_model_and_transforms(f"{FOLDER}{folder}", pretrained_text=False)
    except Exception as error:  # whatever open_clip stumbles over
        raise InputError(f"open_clip cannot load what was written: {error}") from error
    with torch.no_grad():
        features: Tensor = model.eval().encode_image(pixels_B3HW, normalize=False)
    return features


def _description(spec: str) -> dict[str, Any]:
    if not spec.startswith((FOLDER, HUB)):
        return architecture_of(spec)
    place = named_path(spec.removeprefix(FOLDER)) if spec.startswith(FOLDER) else fetch_folder(spec.removeprefix(HUB))
    folder = read_folder(place)
    if folder.kind == "open_clip":
        return dict(folder.config["model_cfg"])
    if folder.kind == "clip":
        return open_clip_config(folder.config, spec)
    like: dict[str, Any] = open_clip.get_model_config(architectures_of(read_weights(folder.weights))[0])
    return like


def _images(backbone: Backbone) -> dict[str, Any]:
    settings = backbone.preprocess
    return {
        "mean": settings.mean,
        "std": settings.std,
        "interpolation": settings.interpolation,
        "resize_mode": settings.resize_mode,
    }


def _save_tokenizer(backbone: Backbone, folder: Path) -> None:
    """The files of a tokenizer of Hugging Face, which open_clip looks for in the folder."""
    name = backbone.spec if backbone.spec.startswith((FOLDER, HUB)) else backbone.spec.partition("/")[0]
    tokenizer_of(name).tokenizer.save_pretrained(folder)

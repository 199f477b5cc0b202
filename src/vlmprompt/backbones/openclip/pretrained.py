"""From a spec with weights to a model of open_clip's: by a tag, a file, a folder, or a repository of the hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
from open_clip.convert import load_big_vision_weights
from torch import nn

from vlmprompt.backbones.file_kind import ARRAYS, file_kind
from vlmprompt.backbones.listed import TWIN
from vlmprompt.backbones.names import FOLDER, HUB, require_architecture, require_place, require_weights
from vlmprompt.backbones.openclip.activation import for_file, for_tag, require_described
from vlmprompt.backbones.openclip.build import published_settings, seeded
from vlmprompt.backbones.openclip.fit import architectures_of, fill
from vlmprompt.backbones.openclip.unfilled import unfilled
from vlmprompt.backbones.weights.file import read_weights
from vlmprompt.backbones.weights.folder import ModelFolder, image_settings, open_clip_config, read_folder
from vlmprompt.backbones.weights.hub import fetch_folder, fetched
from vlmprompt.errors import InputError
from vlmprompt.regular import named_path


@dataclass(frozen=True)
class Pretrained:
    """A model with its weights.

    Attributes:
        model: of open_clip's.
        tokenizer_of: what `open_clip.get_tokenizer` is to be asked for.
        file: absolute path of what the spec names, where that is a file or folder.
    """

    model: nn.Module
    tokenizer_of: str
    file: str | None = None


def pretrained(spec: str, quick_gelu: bool | None) -> Pretrained:
    """The model of a spec that names weights.

    Args:
        spec: `<architecture>/<tag>`, `<architecture>/<file>`, `local-dir:<folder>` or `hf-hub:<owner>/<name>`.
        quick_gelu: the activation asked for, where a file does not say which it was trained with.

    Raises:
        UsageError: unknown architecture or tag, or an activation that must be said.
        InputError: weights cannot be had, are something else, or do not fit.
        CapabilityError: a model of a kind that open_clip does not have.
    """
    if spec.startswith((HUB, FOLDER)):
        require_place(spec, None)
    if spec.startswith(HUB):
        return _from_folder(read_folder(fetch_folder(spec.removeprefix(HUB))), spec, quick_gelu)
    if spec.startswith(FOLDER):
        folder = named_path(spec.removeprefix(FOLDER))
        return replace(_from_folder(read_folder(folder), spec, quick_gelu), file=str(folder.absolute()))
    architecture, _, weights = spec.partition("/")
    require_architecture(architecture, spec)
    tags = tuple(open_clip.list_pretrained_tags_by_model(architecture))
    require_weights(spec, tags)
    if weights in tags or weights in open_clip.list_pretrained_tags_by_model(architecture.removesuffix(TWIN)):
        return Pretrained(_tagged(architecture, weights, quick_gelu), architecture)
    path = named_path(weights)
    return Pretrained(_filed(architecture, path, quick_gelu), architecture, str(path.absolute()))


def _tagged(architecture: str, tag: str, quick_gelu: bool | None) -> nn.Module:
    force = for_tag(architecture, tag, quick_gelu)
    build = partial(
        open_clip.create_model, architecture, pretrained=tag, force_quick_gelu=force, require_pretrained=True
    )
    with unfilled():  # open_clip refuses weights that leave a parameter out
        model: nn.Module = fetched(f"weights {tag!r} of {architecture}", build)
    return model


def _filed(architecture: str, path: Path, quick_gelu: bool | None) -> nn.Module:
    """An architecture with a file's weights."""
    if path.suffix == ".npz" and file_kind(path) == ARRAYS:
        return _big_vision(architecture, path)
    weights = read_weights(path)
    model = _built(architecture, for_file(architecture, weights, quick_gelu))
    fill(model, weights, architecture)
    return model


def _built(architecture: str, quick_gelu: bool) -> nn.Module:
    """A model to be filled, with the image transform that all of the architecture's published weights have."""
    build = partial(
        open_clip.create_model,
        architecture,
        force_quick_gelu=quick_gelu,
        pretrained_text=False,
        force_preprocess_cfg=published_settings(architecture),
    )
    with seeded(0), unfilled():
        model: nn.Module = fetched(f"the description of {architecture}", build)
    return model


def _big_vision(architecture: str, path: Path) -> nn.Module:
    """SigLIP as its authors publish it, by open_clip's own converter."""
    model = _built(architecture, False)
    try:
        load_big_vision_weights(model, str(path))
    except Exception as error:  # whatever numpy, or a converter that expects SigLIP's names, stumbles over
        raise InputError(
            f"{path} holds NumPy arrays, but not those of big_vision's SigLIP for {architecture!r}"
        ) from error
    return model


def _from_folder(folder: ModelFolder, spec: str, quick_gelu: bool | None) -> Pretrained:
    """The model that a folder describes."""
    weights = read_weights(folder.weights)
    images = image_settings(folder)
    if folder.kind == "siglip":
        require_described(spec, False, quick_gelu)
        like = architectures_of(weights)
        if not like:
            raise InputError(f"{spec} is a SiglipModel of a size that open_clip has no architecture for")
        model = _built(like[0], False)
        fill(model, weights, like[0])
        return Pretrained(model, like[0])
    if folder.kind == "clip":
        arguments = open_clip_config(folder.config, spec)
        require_described(spec, arguments["quick_gelu"], quick_gelu)
        with seeded(0), unfilled():
            model = open_clip.model.CLIP(**arguments)
        open_clip.model.set_model_preprocess_cfg(model, _clip_images(model, images))
        tokenizer_of = "ViT-B-32"  # CLIP's own
    else:
        require_described(spec, bool(folder.config["model_cfg"].get("quick_gelu", False)), quick_gelu)
        build = partial(
            open_clip.create_model,
            f"{FOLDER}{folder.path}",
            load_weights=False,
            pretrained_text=False,
        )
        with seeded(0), unfilled():
            model = fetched(f"the description of {spec}", build)
        tokenizer_of = spec
    fill(model, weights, spec)
    return Pretrained(model, tokenizer_of)


def _clip_images(model: Any, images: Mapping[str, Any]) -> dict[str, Any]:
    settings = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    settings |= {"interpolation": "bicubic", "resize_mode": "shortest", "size": model.visual.image_size}
    return settings | dict(images)

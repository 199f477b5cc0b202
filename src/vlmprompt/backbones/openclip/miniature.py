"""Small towers: to ask what a method wants of an architecture and how large it is, or to try a method on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import nn

from vlmprompt.backbones.backbone import Backbone, Identity
from vlmprompt.backbones.listed import architectures
from vlmprompt.backbones.openclip.build import described_model, published_settings, seeded
from vlmprompt.backbones.openclip.image_size import resize_input
from vlmprompt.backbones.openclip.tokenizers import tokenizer_or_stand_in
from vlmprompt.backbones.openclip.tokens import bpe_tokenizer
from vlmprompt.backbones.precision import Precision

_WIDTH = 64
# Layers, patches and context of ViT-B/16, so that what fits there fits here.
_TRIAL_VISION = {"image_size": 112, "patch_size": 8, "layers": 12, "width": _WIDTH, "head_width": _WIDTH}
_TRIAL_TEXT = {"context_length": 77, "vocab_size": 49408, "layers": 12, "width": _WIDTH, "heads": 1}
# A few hundred thousand weights beside the token table, in three layers, which is where prompts of depth differ.
_TESTED_VIT = {"image_size": 32, "width": 96, "patch_size": 8, "head_width": 48}
_TESTED_RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16}
_TESTED_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2}
_TINY_VISION = {"image_size": 32, "patch_size": 32, "layers": 1, "width": _WIDTH, "head_width": _WIDTH}


def outline(
    architecture: Mapping[str, Any], image_size: tuple[int, int] | None = None, *, name: str = "it"
) -> nn.Module:
    """An architecture's shapes, without values: nothing is allocated.

    Args:
        image_size: see `load_backbone`.
        name: of the backbone, for errors.

    Raises:
        InputError, CapabilityError: images of that size cannot be read, see `resize_input`.
    """
    with torch.device("meta"):
        model = described_model(architecture)
        if image_size is not None:
            resize_input(model, image_size, name)
        return model


def miniature(architecture: Mapping[str, Any], name: str, image_size: tuple[int, int] | None = None) -> Backbone:
    """A backbone to ask a method of: a text tower of the architecture's layers but a few units wide, with random
    weights, and its image tower by shapes alone, which encodes nothing.

    Args:
        architecture: see `architecture_of`.
        name: of the backbone: one of open_clip's architectures, with or without weights, or another.
        image_size: see `load_backbone`.

    Raises:
        CapabilityError: see `Backbone.from_model` and `resize_input`.
        InputError: a text tower whose description or tokenizer would have to be downloaded, and cannot be; or see
            `resize_input`.
    """
    narrow = {**architecture, "text_cfg": _narrow(architecture["text_cfg"])}
    if "multimodal_cfg" in architecture:
        narrow["multimodal_cfg"] = {**_narrow(architecture["multimodal_cfg"]), "layers": 1}
    with seeded(0):
        model: Any = described_model({**narrow, "vision_cfg": {**_TINY_VISION, **_of_coca(architecture)}})
    model.visual = outline(narrow, image_size, name=name).visual
    listed, _, tag = name.partition("/")
    model.visual.preprocess_cfg = published_settings(listed, tag)
    tokenizer = tokenizer_or_stand_in(listed) if listed in architectures() else bpe_tokenizer()
    return Backbone.from_model(model, tokenizer, identity=Identity(f"narrow {name}", 0, image_size=image_size))


def trial_backbone() -> Backbone:
    """A ViT-B/16 but 64 units wide, with random weights, which encodes images and texts in milliseconds."""
    with seeded(0):
        model = described_model({"embed_dim": _WIDTH, "vision_cfg": _TRIAL_VISION, "text_cfg": _TRIAL_TEXT})
    return Backbone.from_model(model, bpe_tokenizer(), identity=Identity("a miniature", 0))


def tiny_clip(*, vision_layers: int = 3, text_layers: int = 3, resnet: bool = False, seed: int = 0) -> nn.Module:
    """A frozen CLIP with random weights and QuickGELU for tests: images of 32 x 32 pixels, or of 64 x 64 by a ResNet.

    Widths are 96 (ViT) and 64 (text), the joint width is 32.
    """
    vision = _TESTED_RESNET if resnet else {**_TESTED_VIT, "layers": vision_layers}
    text = {**_TESTED_TEXT, "layers": text_layers}
    with seeded(seed):
        model: Any = described_model({"embed_dim": 32, "vision_cfg": vision, "text_cfg": text, "quick_gelu": True})
        # open_clip's initial values leave short random towers almost linear: stir the text side a little.
        for parameter in model.transformer.parameters():
            parameter.data += 0.02 * torch.randn(parameter.shape)
    frozen: nn.Module = model.eval().requires_grad_(False)
    return frozen


def tiny_backbone(*, resnet: bool = False, precision: Precision = "fp32") -> Backbone:
    """`tiny_clip` behind the engines, under the name tiny-vit or tiny-rn; the same weights at every call."""
    name = "tiny-rn" if resnet else "tiny-vit"
    return Backbone.from_model(tiny_clip(resnet=resnet), _tokenizer(), name=name, precision=precision)


@cache
def _tokenizer() -> Any:
    """Reading its vocabulary takes longer than building a tiny tower."""
    return bpe_tokenizer()


def _narrow(tower: Mapping[str, Any]) -> dict[str, Any]:
    """A transformer of open_clip's own; an encoder of another package is as it is."""
    return {**tower, **({} if "hf_model_name" in tower else {"width": _WIDTH, "heads": 1})}


def _of_coca(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """What CoCa's decoder needs to know of the image tower."""
    return {key: value for key, value in architecture["vision_cfg"].items() if key == "output_tokens"}

"""Which of open_clip's architectures tensors are of, by their shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

_Shapes = Mapping[str, tuple[int, ...]]
_BLOCK = re.compile(r"\.(?:resblocks|blocks)\.(\d+)\.")


@dataclass(frozen=True)
class Size:
    """The numbers by which architectures differ, of a model's text tower and image tower.

    Attributes:
        text: (positions, vocabulary, width, layers, whether a decoder follows, as in CoCa).
        image: (width, layers, patch, input size) of open_clip's own ViT; (width, layers of each stage) of its
            ResNet; (patch, input size) of a ViT of timm's.
    """

    text: tuple[int, ...]
    image: tuple[Any, ...]


def architectures_like(tensors: Mapping[str, Tensor], configs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The architectures whose towers have these tensors' sizes, the shortest name first.

    Args:
        tensors: of a whole model, by open_clip's names.
        configs: name -> open_clip's description of the towers.

    Returns:
        Names; none where the towers are of a kind that does not show its size.
    """
    size = _size_of({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    if size is None:
        return []
    found = [name for name, config in configs.items() if _size_in(config) == size]
    return sorted(found, key=lambda name: (len(name), name))


def _size_of(shapes: _Shapes) -> Size | None:
    side = "text." if "text.token_embedding.weight" in shapes else ""
    try:
        vocabulary, width = shapes[f"{side}token_embedding.weight"]
        length = shapes[f"{side}positional_embedding"][0]
        decoder = any(name.startswith("text_decoder.") for name in shapes)
        text = (length, vocabulary, width, _layers(shapes, f"{side}transformer."), decoder)
        if "visual.conv1.weight" in shapes and "visual.positional_embedding" in shapes:
            c, _, _, patch = shapes["visual.conv1.weight"]
            side_n = round((shapes["visual.positional_embedding"][0] - 1) ** 0.5)
            return Size(text, (c, _layers(shapes, "visual.transformer."), patch, patch * side_n))
        if "visual.attnpool.positional_embedding" in shapes:
            stages = (_stage(shapes, f"visual.layer{i}.") for i in range(1, 5))
            return Size(text, (shapes["visual.layer1.0.conv1.weight"][0], *stages))
        if "visual.trunk.pos_embed" in shapes:
            patch = shapes["visual.trunk.patch_embed.proj.weight"][-1]
            return Size(text, (patch, patch * int(shapes["visual.trunk.pos_embed"][1] ** 0.5)))
    except (KeyError, ValueError, IndexError):
        return None
    return None


def _layers(shapes: _Shapes, prefix: str) -> int:
    return len({found[1] for name in shapes if name.startswith(prefix) and (found := _BLOCK.search(name))})


def _stage(shapes: _Shapes, prefix: str) -> int:
    return len({name.split(".")[2] for name in shapes if name.startswith(prefix)})


def _size_in(config: Mapping[str, Any]) -> Size | None:
    text, vision = config["text_cfg"], config["vision_cfg"]
    if "hf_model_name" in text or "layers" not in text:
        return None
    length = text.get("context_length", 77) + bool(text.get("embed_cls"))
    own = (length, text.get("vocab_size", 49408), text["width"], text["layers"], "multimodal_cfg" in config)
    size = vision.get("image_size", 224)
    if timm := vision.get("timm_model_name"):
        patch = re.search(r"patch(\d+)", timm)
        return Size(own, (int(patch[1]), size)) if patch else None
    if isinstance(vision.get("layers"), list):
        return Size(own, (vision.get("width", 64), *vision["layers"]))
    return Size(own, (vision["width"], vision["layers"], vision["patch_size"], size))

"""How a model wants its images."""

from __future__ import annotations

from typing import Any

import open_clip

from vlmprompt.data.preprocess import PreprocessConfig

_SETTINGS = ("mean", "std", "interpolation", "resize_mode")


def preprocess_config(visual: Any) -> PreprocessConfig:
    """An image tower's own transform settings, OpenAI's statistics where it has none.

    The size is that of the tower as it was built: the settings that came with it may be those of another size.
    """
    cfg = dict(getattr(visual, "preprocess_cfg", None) or {})
    height, width = input_sides(visual)
    return PreprocessConfig(
        size=height if height == width else (height, width),
        mean=tuple(cfg.get("mean", open_clip.OPENAI_DATASET_MEAN)),
        std=tuple(cfg.get("std", open_clip.OPENAI_DATASET_STD)),
        interpolation=cfg.get("interpolation", "bicubic"),
        resize_mode=cfg.get("resize_mode", "shortest"),
    )


def published_settings(architecture: str, tag: str = "") -> dict[str, Any]:
    """The transform settings of a tag's weights, or those that all published weights of an architecture share.

    There are none where they differ.
    """
    listed = open_clip.list_pretrained_tags_by_model(architecture)
    tags = [tag] if tag in listed else listed
    configs = (open_clip.get_pretrained_cfg(architecture, tag) for tag in tags)
    said = {tuple(config.get(key) for key in _SETTINGS) for config in configs}
    shared = dict(zip(_SETTINGS, said.pop(), strict=True)) if len(said) == 1 else {}
    return {key: value for key, value in shared.items() if value}


def input_sides(visual: Any) -> tuple[int, int]:
    """Height and width of an image tower's input in pixels.

    A trunk of timm that reads one size alone knows it best: open_clip builds it at the size that its name implies,
    whatever the description says. One behind convolutions insists only if it has positions (ViTamin-XL has none).
    """
    trunk: Any = getattr(visual, "trunk", None)
    patches: Any = getattr(trunk, "patch_embed", None)
    insists = getattr(patches, "strict_img_size", False)
    if insists and hasattr(patches, "backbone"):
        insists = trunk.pos_embed is not None
    size = patches.img_size if insists else visual.image_size
    height, width = size if isinstance(size, tuple | list) else (size, size)
    return int(height), int(width)

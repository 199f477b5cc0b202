"""How a model wants its images."""

from __future__ import annotations

from typing import Any

from vlmprompt.data.preprocess import PreprocessConfig

# Of the pictures that OpenAI trained on.
OPENAI_MEAN, OPENAI_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def preprocess_config(visual: Any) -> PreprocessConfig:
    """An image tower's own transform settings, OpenAI's statistics where it has none.

    The size is that of the tower as it was built: the settings that came with it may be those of another size.
    """
    cfg = dict(getattr(visual, "preprocess_cfg", None) or {})
    height, width = input_sides(visual)
    return PreprocessConfig(
        size=height if height == width else (height, width),
        mean=tuple(cfg.get("mean", OPENAI_MEAN)),
        std=tuple(cfg.get("std", OPENAI_STD)),
        interpolation=cfg.get("interpolation", "bicubic"),
        resize_mode=cfg.get("resize_mode", "shortest"),
    )


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

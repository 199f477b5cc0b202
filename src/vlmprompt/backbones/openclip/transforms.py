"""How a model wants its images."""

from __future__ import annotations

from typing import Any

import open_clip

from vlmprompt.data.preprocess import PreprocessConfig


def preprocess_config(visual: Any) -> PreprocessConfig:
    """An image tower's own transform settings, OpenAI's statistics where it has none."""
    cfg = dict(getattr(visual, "preprocess_cfg", None) or {})
    size = cfg.get("size", visual.image_size)
    return PreprocessConfig(
        size=int(size[0] if isinstance(size, (tuple, list)) else size),
        mean=tuple(cfg.get("mean", open_clip.OPENAI_DATASET_MEAN)),
        std=tuple(cfg.get("std", open_clip.OPENAI_DATASET_STD)),
        interpolation=cfg.get("interpolation", "bicubic"),
        resize_mode=cfg.get("resize_mode", "shortest"),
    )

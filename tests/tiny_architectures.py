"""Tiny architectures that open_clip knows by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
from open_clip import factory

TINY_CONFIG: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def register(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """tiny-x with and without QuickGELU, and other-x, which has a ResNet; until the test ends.

    Args:
        folder: where their descriptions are kept.

    Returns:
        The name of the first.
    """
    monkeypatch.setattr(factory, "_MODEL_CONFIGS", dict(factory._MODEL_CONFIGS))
    monkeypatch.setattr(factory, "_MODEL_CONFIG_PATHS", list(factory._MODEL_CONFIG_PATHS))
    resnet = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16}
    configs = {
        "tiny-x": TINY_CONFIG,
        "tiny-x-quickgelu": TINY_CONFIG | {"quick_gelu": True},
        "other-x": TINY_CONFIG | {"vision_cfg": resnet},
    }
    for name, config in configs.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    return "tiny-x"

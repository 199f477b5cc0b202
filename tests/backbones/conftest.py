"""Tiny architectures that open_clip knows by name."""

from __future__ import annotations

import json

import open_clip
import pytest
from open_clip import factory

TINY_CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


@pytest.fixture
def tiny_architecture(tmp_path, monkeypatch):
    """Tiny architectures by name: tiny-x with and without QuickGELU, and other-x, which has a ResNet."""
    monkeypatch.setattr(factory, "_MODEL_CONFIGS", dict(factory._MODEL_CONFIGS))
    monkeypatch.setattr(factory, "_MODEL_CONFIG_PATHS", list(factory._MODEL_CONFIG_PATHS))
    configs = tmp_path / "architectures"
    configs.mkdir()
    (configs / "tiny-x.json").write_text(json.dumps(TINY_CONFIG))
    (configs / "tiny-x-quickgelu.json").write_text(json.dumps(TINY_CONFIG | {"quick_gelu": True}))
    resnet = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16}
    (configs / "other-x.json").write_text(json.dumps(TINY_CONFIG | {"vision_cfg": resnet}))
    open_clip.add_model_config(configs)
    return "tiny-x"

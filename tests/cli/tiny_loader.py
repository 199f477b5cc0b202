"""A backbone `tiny-vit` that commands can load by name, as a plugin would bring it."""

from __future__ import annotations

from typing import Any

from open_clip import SimpleTokenizer

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.testing import tiny_clip


class TinyLoader:
    """The tests' tiny ViT CLIP; the same weights at every call."""

    def load(self, spec: str, *, device: str, precision: Any, **more: Any) -> Backbone:
        return Backbone.from_model(tiny_clip().to(device), SimpleTokenizer(), name=spec, precision=precision)

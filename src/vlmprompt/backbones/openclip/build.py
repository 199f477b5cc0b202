"""Models of open_clip with random weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import open_clip
import torch
from torch import nn

from vlmprompt.backbones.backbone import Backbone, Identity
from vlmprompt.backbones.openclip.tokens import bpe_tokenizer
from vlmprompt.backbones.openclip.transforms import published_settings


def clip_model(architecture: Mapping[str, Any], *, seed: int) -> nn.Module:
    """open_clip's `CLIP` with random weights; `architecture` are its arguments."""
    with seeded(seed):
        return open_clip.model.CLIP(**architecture)


def random_model(architecture: str, *, seed: int, quick_gelu: bool) -> nn.Module:
    """An architecture of open_clip by name, with random weights, and the image transform of its published ones."""
    with seeded(seed), quiet():
        return open_clip.create_model(
            architecture,
            force_quick_gelu=quick_gelu,
            pretrained_text=False,
            force_preprocess_cfg=published_settings(architecture),
        )


def miniature(architecture: Mapping[str, Any], name: str) -> Backbone:
    """Random towers with an architecture's layers and grid of patches, but a few units wide: to ask a method of them.

    Raises:
        CapabilityError: see `Backbone.from_model`.
    """
    width = 16 if isinstance(architecture["vision_cfg"]["layers"], list) else 64
    vision = {**architecture["vision_cfg"], "width": width, "head_width": 64}
    text = {**architecture["text_cfg"], "width": 64, "heads": 1}
    narrow = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}
    return Backbone.from_model(clip_model(narrow, seed=0), bpe_tokenizer(), identity=Identity(f"narrow {name}", 0))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """open_clip initialises from the global generator: seeded within, left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Without open_clip's log: that weights are random is known where it matters, and its errors are raised as well."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.setLevel(level)

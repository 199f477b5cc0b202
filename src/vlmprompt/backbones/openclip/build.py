"""Models of open_clip with random weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import open_clip
import torch
from torch import nn

from vlmprompt.backbones.weights.hub import fetched

_SETTINGS = ("mean", "std", "interpolation", "resize_mode")


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


def random_clip(architecture: Mapping[str, Any], *, seed: int) -> nn.Module:
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


def described_model(architecture: Mapping[str, Any]) -> nn.Module:
    """The model of open_clip that a description of its kind is of (`CLIP`, `CustomTextCLIP` or `CoCa`), not seeded.

    Raises:
        InputError: its text tower's description would have to be downloaded, and cannot be.
    """
    arguments = dict(architecture)
    of_hub = arguments["text_cfg"].get("hf_model_name")
    custom = arguments.pop("custom_text", False) or bool(of_hub)
    if of_hub:
        arguments["text_cfg"] = {**arguments["text_cfg"], "hf_model_pretrained": False}
    classes = open_clip.model.CustomTextCLIP if custom else open_clip.model.CLIP
    build = partial(open_clip.CoCa if "multimodal_cfg" in arguments else classes, **arguments)
    model: nn.Module = fetched(f"the description of {of_hub}", build) if of_hub else build()
    return model


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

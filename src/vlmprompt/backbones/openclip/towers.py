"""A model taken apart: its text and image towers behind the engines, its transform, its scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vlmprompt.backbones.openclip.image import vision_engine
from vlmprompt.backbones.openclip.text import text_tower
from vlmprompt.backbones.openclip.tokens import words_of
from vlmprompt.backbones.openclip.transforms import preprocess_config
from vlmprompt.backbones.precision import Precision, autocast
from vlmprompt.backbones.text.engine import TextEngine
from vlmprompt.backbones.vision.tower import VisionEngine
from vlmprompt.data.preprocess import PreprocessConfig


@dataclass(frozen=True)
class Towers:
    """What a backbone is made of; see `Backbone`."""

    text: TextEngine
    vision: VisionEngine
    preprocess: PreprocessConfig
    scale: float


def take_apart(
    model: nn.Module, tokenizer: Any, *, name: str, precision: Precision, known_ids: frozenset[int] | None = None
) -> Towers:
    """Freeze a model of open_clip and put the engines on its parts.

    Args:
        name: of the backbone, for errors.
        known_ids: tokens that the text tower was trained on; None: as good as all.

    Raises:
        CapabilityError: a tower is of a kind that the engines cannot run; says which and why.
    """
    model.requires_grad_(False).eval()
    parts: Any = model
    run_in = autocast(next(model.parameters()).device, precision)
    tower = text_tower(parts, words_of(tokenizer, known_ids), name)
    return Towers(
        TextEngine(tower, run_in),
        vision_engine(parts.visual, tower.joint_dim, run_in, name),
        preprocess_config(parts.visual),
        float(torch.exp(parts.logit_scale.detach())),
    )

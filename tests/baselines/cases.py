"""Every baseline with options that suit the tiny towers, and what it should hold there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.methods.build import build_method
from vlmprompt.methods.contract import PromptMethod

NAMES = ["cat", "red_panda", "tench, fish", "owl"]
LABELS = torch.tensor([0, 1, 2, 3])

OPTIONS: dict[str, dict[str, Any]] = {
    "cocoop": {},
    "ivlp": {},
    "kgcoop": {},
    "locoop": {"n_ctx": 4, "top_k": 1},
    "maple": {},
    "plot": {"n_prompts": 2, "n_ctx": 4},
    "proda": {"n_prompts": 4, "prompt_batch": 2, "n_ctx": 4},
    "promptsrc": {},
    "vpt": {},
}

# At widths 96 (image) and 64 (text), joint width 32, three layers in each tower.
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "cocoop": {
        "ctx": (4, 64),
        "meta_net.0.weight": (2, 32),
        "meta_net.0.bias": (2,),
        "meta_net.2.weight": (64, 2),
        "meta_net.2.bias": (64,),
    },
    "ivlp": {"text_prompts": (3, 2, 64), "visual_prompts": (3, 2, 96)},
    "kgcoop": {"ctx": (4, 64)},
    "locoop": {"ctx": (4, 64)},
    "maple": {"text_prompts": (3, 2, 64)}
    | {f"projections.{i}.weight": (96, 64) for i in range(3)}
    | {f"projections.{i}.bias": (96,) for i in range(3)},
    "plot": {"ctx": (2, 4, 64)},
    "proda": {"ctx": (4, 4, 64)},
    "promptsrc": {"text_prompts": (3, 4, 64), "visual_prompts": (3, 4, 96)},
    "vpt": {"visual_prompts": (3, 8, 96)},
}

THROUGH_IMAGES = ("ivlp", "maple", "promptsrc", "vpt")


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def build(backbone: Backbone, name: str, seed: int = 1, **options: Any) -> PromptMethod:
    generator = torch.Generator().manual_seed(seed)
    return build_method(name, backbone, NAMES, OPTIONS[name] | options, generator=generator)

"""The methods on image features, with what they hold on the tiny towers, and features to fit them on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.methods.build import build_method
from vlmprompt.methods.contract import PromptMethod

NAMES = ["cat", "red_panda", "tench, fish"]
WIDTH = 32  # of the tiny towers' joint space

OPTIONS: dict[str, dict[str, Any]] = {
    "clap": {"epochs": 4},
    "clip_adapter": {},
    "lp_plus_plus": {"epochs": 12},
    "taskres": {},
    "tip_adapter": {"views": 1},
    "tip_adapter_f": {"views": 1},
}
FITTED = ("clap", "lp_plus_plus", "tip_adapter", "tip_adapter_f")

# For 12 training images.
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "clap": {"prototypes": (3, 32), "multipliers": (3,)},
    "clip_adapter": {"fc.0.weight": (8, 32), "fc.2.weight": (32, 8)},
    "lp_plus_plus": {"weight": (3, 32), "bias": (3,), "alpha": (3,)},
    "taskres": {"residual": (3, 32)},
    "tip_adapter": {"keys": (12, 32), "labels": (12,)},
    "tip_adapter_f": {"keys": (12, 32), "labels": (12,)},
}


def build(backbone: Backbone, name: str, seed: int = 1, **options: Any) -> PromptMethod:
    generator = torch.Generator().manual_seed(seed)
    return build_method(name, backbone, NAMES, OPTIONS[name] | options, generator=generator)


def blobs(per_class: int, seed: int) -> tuple[ImageFeatures, Tensor]:
    """Overlapping clouds around a fixed centre for each class, not of unit length."""
    centres_Kd = torch.randn(len(NAMES), WIDTH, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(len(NAMES)).repeat(per_class)
    noise = torch.randn(len(labels), WIDTH, generator=torch.Generator().manual_seed(seed))
    return ImageFeatures(3 * centres_Kd[labels] + 6 * noise), labels


def fitted(backbone: Backbone, name: str, **options: Any) -> PromptMethod:
    """Fitted on 12 images where it is fitted at all."""
    method = build(backbone, name, **options)
    if name in FITTED:
        method.fit(*blobs(4, seed=1), blobs(5, seed=2))
    return method


def axes(*rows: dict[int, float]) -> Tensor:
    """Vectors (n,d) by their few coordinates that are not zero."""
    vectors = torch.zeros(len(rows), WIDTH)
    for vector, row in zip(vectors, rows, strict=True):
        for place, value in row.items():
            vector[place] = value
    return vectors

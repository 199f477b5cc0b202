"""Image features with local ones, against open_clip's own `encode_image`, which gives the pooled one alone."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.frame import Mark, Row, relative_error, side_by_side
from vlmprompt.api import ImageNeeds, load_backbone

ARCHITECTURES = ("ViT-B-16-SigLIP2", "PE-Core-T-16-384")
BATCH = 8
MOST = 1.1


def measure(repeats: int = 7) -> list[Row]:
    """A row for each tower."""
    return [_row(architecture, repeats) for architecture in ARCHITECTURES]


def _row(architecture: str, repeats: int) -> Row:
    backbone = load_backbone(architecture, random_weights=0)
    model: Any = backbone.model
    images = torch.randn(BATCH, 3, *backbone.preprocess.sides, generator=torch.Generator().manual_seed(0))

    def plain() -> torch.Tensor:
        with torch.no_grad():
            features: torch.Tensor = model.encode_image(images)
        return features

    def ours() -> torch.Tensor:
        found = backbone.encode_image(images, ImageNeeds(local="value_block"))
        assert found.local_BNc is not None
        return found.global_Bd

    error = relative_error(ours(), plain())
    seconds, reference = side_by_side({ours: repeats, plain: repeats})
    figures = {"seconds": seconds, "encode_image": reference, "ratio": seconds / reference, "feature error": error}
    marks = (Mark("ratio", figures["ratio"], MOST, at_least=False), Mark("feature error", error, 1e-5, at_least=False))
    return Row("image_towers", f"{architecture}, {BATCH} images, with local features", figures, marks)

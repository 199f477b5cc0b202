"""Image features with local ones, against open_clip's own image tower run plainly, which gives the pooled one alone."""

from __future__ import annotations

from contextlib import nullcontext

import open_clip
import torch

from benchmarks.frame import Mark, Row, relative_error, side_by_side
from vlmprompt.api import ImageNeeds, VisualPrompts
from vlmprompt.backbones.openclip.image import vision_engine
from vlmprompt.backbones.openclip.transforms import input_sides

ARCHITECTURES = ("ViT-B-16-SigLIP2", "PE-Core-T-16-384")
BATCH = 4
MOST = 1.1


def measure(repeats: int = 7) -> list[Row]:
    """A row for each tower."""
    return [_row(architecture, repeats) for architecture in ARCHITECTURES]


def _row(architecture: str, repeats: int) -> Row:
    config = open_clip.get_model_config(architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # noqa: TID251 - open_clip's initialisation knows no generator
        visual = open_clip.model._build_vision_tower(config["embed_dim"], config["vision_cfg"])
    visual.eval().requires_grad_(False)
    engine = vision_engine(visual, config["embed_dim"], nullcontext, architecture)
    images = torch.randn(BATCH, 3, *input_sides(visual), generator=torch.Generator().manual_seed(0))

    def plain() -> torch.Tensor:
        with torch.no_grad():
            features: torch.Tensor = visual(images)
        return features

    def ours() -> torch.Tensor:
        with torch.no_grad():
            found = engine.encode(images, ImageNeeds(local="value_block"), VisualPrompts())
        assert found.local_BNc is not None
        return found.global_Bd

    error = relative_error(ours(), plain())
    seconds, reference = side_by_side({ours: repeats, plain: repeats})
    figures = {"seconds": seconds, "encode_image": reference, "ratio": seconds / reference, "feature error": error}
    marks = (Mark("ratio", figures["ratio"], MOST, at_least=False), Mark("feature error", error, 1e-5, at_least=False))
    return Row("image_towers", f"{architecture}, {BATCH} images, with local features", figures, marks)

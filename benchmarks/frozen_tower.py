"""A frozen ViT-B/16 on one core: image features as extraction and evaluation compute them, against open_clip's pass.

Nothing is compiled and nothing kept from batch to batch, so an image of 2,000 costs what one of these costs; the whole
is that product, and said to be computed. The pass with local features gives more than `encode_image` does. Beside them
stands our pass by torch's own linear maps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext

import open_clip
import torch

from benchmarks.frame import Mark, Row, relative_error, side_by_side
from vlmprompt.api import ImageNeeds, VisualPrompts
from vlmprompt.backbones.openclip.image import vision_engine
from vlmprompt.backbones.unrecorded import plainly

ARCHITECTURE, BATCH, MANY = "ViT-B-16", 64, 2000
NEEDS = {"pooled": ImageNeeds(), "pooled and local": ImageNeeds(local="value_block", space="pre_proj")}
LEAST = 1.25


def measure(repeats: int = 3) -> list[Row]:
    """A row for each kind of features."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            return _rows(repeats)
    finally:
        torch.set_num_threads(threads)


def _rows(repeats: int) -> list[Row]:
    config = open_clip.get_model_config(ARCHITECTURE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # noqa: TID251 - open_clip's initialisation knows no generator
        visual = open_clip.model._build_vision_tower(config["embed_dim"], config["vision_cfg"])
    visual.eval().requires_grad_(False)
    engine = vision_engine(visual, config["embed_dim"], nullcontext, ARCHITECTURE)
    images = torch.randn(BATCH, 3, 224, 224, generator=torch.Generator().manual_seed(0))

    def theirs() -> torch.Tensor:
        features: torch.Tensor = visual(images)
        return features

    def pooled() -> torch.Tensor:
        return engine.encode(images, NEEDS["pooled"], VisualPrompts()).global_Bd

    def local() -> torch.Tensor:
        return engine.encode(images, NEEDS["pooled and local"], VisualPrompts()).global_Bd

    def plain() -> torch.Tensor:
        with plainly():
            return pooled()

    reference = theirs()
    errors = {run: relative_error(run(), reference) for run in (pooled, local)}
    plain()
    runs: dict[Callable[[], object], int] = dict.fromkeys((theirs, pooled, local, plain), repeats)
    theirs_s, pooled_s, local_s, plain_s = side_by_side(runs, time.process_time)
    found = zip(NEEDS, (pooled, local), (pooled_s, local_s), strict=True)
    return [_row(name, theirs_s, seconds, plain_s, errors[run]) for name, run, seconds in found]


def _row(name: str, theirs_s: float, ours_s: float, plain_s: float, error: float) -> Row:
    figures = {
        "encode_image, CPU s an image": theirs_s / BATCH,
        "ours, CPU s an image": ours_s / BATCH,
        "pooled alone, plainly, CPU s an image": plain_s / BATCH,
        f"encode_image, {MANY:,} images, computed, CPU s": theirs_s / BATCH * MANY,
        f"ours, {MANY:,} images, computed, CPU s": ours_s / BATCH * MANY,
    }
    marks = (Mark("times faster", theirs_s / ours_s, LEAST), Mark("feature error", error, 1e-5, at_least=False))
    return Row("frozen_tower", f"{ARCHITECTURE}, batches of {BATCH}, one core, {name}", figures, marks)

"""Tip-Adapter's answers to cached features of 1,000 images, against the formula written out, on two threads.

The cache holds 16 images of each of 1,000 classes. The formula multiplies with the one-hot labels of all of them; the
method adds up each class. What is measured is CPU time of the process, of both threads together, which is never less
than the time on two free cores: other work on the machine counts for nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import open_clip
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.frame import Mark, Row, relative_error, side_by_side
from vlmprompt.api import Backbone, ImageFeatures, build_method

CLASSES, SHOTS, WIDTH, IMAGES, THREADS = 1000, 16, 512, 1000, 2
ALPHA, BETA = 1.17, 1.0
MOST_SECONDS = 2.0


def measure(repeats: int = 5) -> list[Row]:
    """One row."""
    with _threads(THREADS), torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        labels_N = torch.arange(CLASSES).repeat_interleave(SHOTS)
        centres_Kd = torch.randn(CLASSES, WIDTH, generator=generator)
        cached_Nd = centres_Kd[labels_N] + torch.randn(len(labels_N), WIDTH, generator=generator)
        images_Bd = centres_Kd[:IMAGES] + torch.randn(IMAGES, WIDTH, generator=generator)
        options = {"alpha": ALPHA, "beta": BETA, "views": 1}
        method = build_method("tip_adapter", _towers(), [f"thing {i}" for i in range(CLASSES)], options)
        method.fit(ImageFeatures(cached_Nd), labels_N, None)
        frozen = method.frozen()
        assert frozen.text is not None
        text_Kd, values_NK = frozen.text.unit_PKd[0], F.one_hot(labels_N).float()

        def ours() -> Tensor:
            return frozen(ImageFeatures(images_Bd)).logits

        def formula() -> Tensor:
            z_Bd, keys_Nd = F.normalize(images_Bd, dim=-1), F.normalize(cached_Nd, dim=-1)
            closeness_BN = torch.exp(-BETA * (1 - torch.einsum("bd,nd->bn", z_Bd, keys_Nd)))
            cache_BK = torch.einsum("bn,nk->bk", closeness_BN, values_NK)
            return 100 * torch.einsum("bd,kd->bk", z_Bd, text_Kd) + ALPHA * cache_BK

        error = relative_error(ours(), formula())
        ours_s, formula_s = side_by_side({ours: repeats, formula: repeats}, time.process_time)
    figures = {"CPU s": ours_s, "formula CPU s": formula_s, "ratio": formula_s / ours_s, "error": error}
    marks = (Mark("CPU s", ours_s, MOST_SECONDS, at_least=False), Mark("error", error, 1e-5, at_least=False))
    case = f"K={CLASSES}, {SHOTS} shots, d={WIDTH}, {IMAGES} images, {THREADS} threads"
    return [Row("tip_adapter", case, figures, marks)]


def _towers() -> Backbone:
    """Of random weights and one layer: only the text of the classes is encoded, before anything is timed."""
    vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # noqa: TID251 - open_clip's initialisation knows no generator
        model = open_clip.model.CLIP(embed_dim=WIDTH, vision_cfg=vision, text_cfg=text, quick_gelu=True)
    return Backbone.from_model(model, open_clip.SimpleTokenizer(), name="one layer")


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many of torch's threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)

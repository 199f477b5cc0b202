"""Where a training step of GalLoP, DUAL-PT, Bloom and CoOp goes: processor seconds of its parts, on two towers.

doodle-clip on 64 drawn classes, and ViT-B/16 with random weights on 20 classes. Images are at hand: reading them is the
loader's. The parts are those that the training loop asks a method for, in its order.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from benchmarks import plain
from benchmarks.frame import Row
from benchmarks.names import SHORT
from vlmprompt.api import Backbone, PromptMethod, build_method, load_backbone, load_dataset
from vlmprompt.data.images import read_image

METHODS = ("gallop", "dual_pt", "bloom", "coop")
OPTIONS = {"dual_pt": {"context": "none"}}  # descriptions are encoded once, before the first step
PARTS = ("image", "text", "classify", "backward", "update")
T = TypeVar("T")
Built = tuple[Backbone, Sequence[str], Tensor, Tensor]


def measure(repeats: int = 5) -> list[Row]:
    """Medians of each part, a row for each method and kind of towers."""
    return [
        Row("profiles", f"{name}, {case}", dict(_profile(name, *built, repeats)))
        for case, built in (("doodle-clip, K=64, B=32", _doodles()), ("ViT-B/16, K=20, B=4", _vit_b_16()))
        for name in METHODS
    ]


def _profile(
    name: str, backbone: Backbone, names: Sequence[str], images: Tensor, labels: Tensor, repeats: int
) -> Iterator[tuple[str, float]]:
    method = build_method(name, backbone, names, OPTIONS.get(name), generator=torch.Generator().manual_seed(0)).train()
    optimizer = torch.optim.SGD(method.trainable_parameters(), lr=0.0)
    runs = [list(_step(method, optimizer, images, labels)) for _ in range(repeats + 1)][1:]
    seconds = {part: statistics.median(run[i] for run in runs) for i, part in enumerate(PARTS)}
    yield from ((f"{part} s", value) for part, value in seconds.items())
    yield "step s", sum(seconds.values())


def _step(method: PromptMethod, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> Iterator[float]:
    """The seconds of each of PARTS."""
    draws = method.sample_draws()
    features, image_s = _timed(lambda: method.encode_images(images, draws=draws))
    text, text_s = _timed(lambda: method.encode_text(features.global_Bd, draws=draws))
    loss, classify_s = _timed(lambda: method.loss(method.classify(features, text), labels).total)
    _, backward_s = _timed(loss.backward)
    _, update_s = _timed(lambda: (optimizer.step(), optimizer.zero_grad()))
    yield from (image_s, text_s, classify_s, backward_s, update_s)


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    start = time.process_time()
    return work(), time.process_time() - start


def _doodles() -> Built:
    backbone, dataset = load_backbone("doodle-clip"), load_dataset("doodles")
    records = dataset.splits["train"][::128]
    transform = backbone.transform(train=False)
    images = torch.stack([transform(read_image(record)) for record in records])
    return backbone, dataset.class_names, images, torch.tensor([record.label for record in records])


def _vit_b_16() -> Built:
    _, _, backbone = plain.build()
    images = torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    return backbone, SHORT[:20], images, torch.tensor([0, 1, 2, 3])

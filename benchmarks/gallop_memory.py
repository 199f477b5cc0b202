"""Peak memory of a whole GalLoP training step at 1000 classes, each image tower in a fresh process.

As a script, `python -m benchmarks.gallop_memory ARCHITECTURE CLASSES IMAGES` measures one and prints JSON.
"""

from __future__ import annotations

import json
import sys

import torch

from benchmarks.classes_scale import forget_peak, in_fresh_process, peak_bytes
from benchmarks.frame import Mark, Row
from benchmarks.names import SHORT, WORDS
from vlmprompt.api import build_method, load_backbone

TOWERS = ("ViT-B-16-quickgelu", "RN50-quickgelu")
CLASSES, IMAGES = 1000, 32


def measure(repeats: int = 1) -> list[Row]:
    """Gigabytes above the loaded model, the image tower's pass included."""
    peaks = {tower: in_fresh_process("gallop_memory", tower, CLASSES, IMAGES)["gigabytes"] for tower in TOWERS}
    marks = tuple(Mark(f"GB of {tower}", peak, 6, at_least=False) for tower, peak in peaks.items())
    return [Row("gallop_memory", f"whole step, K={CLASSES}, B={IMAGES}, fp32", {}, marks)]


def one(architecture: str, n_classes: int, n_images: int) -> dict[str, float]:
    """The peak of the process's first step above what it held before."""
    backbone = load_backbone(architecture, random_weights=0)
    generator = torch.Generator().manual_seed(0)
    names = [f"{word} {name}" for word in WORDS[:20] for name in SHORT][:n_classes]
    method = build_method("gallop", backbone, names, generator=generator)
    images = torch.randn(n_images, 3, 224, 224, generator=generator)
    labels = torch.randint(len(names), (n_images,), generator=generator)
    before = forget_peak()
    method.loss(method(images), labels).total.backward()
    return {"gigabytes": (peak_bytes() - before) / 1e9}


if __name__ == "__main__":
    print(json.dumps(one(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))

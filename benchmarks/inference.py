"""What a trained method adds to an image's time beside CoOp, with the text of its classes encoded once.

DUAL-PT's paper says 10 % of its own ("Analysis of inference time"), without the size of the batch or the device.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks import plain
from benchmarks.frame import Row, side_by_side
from benchmarks.names import SHORT
from vlmprompt.api import PromptMethod, TextFeatures, build_method

IMAGES = 8
METHODS = ("gallop", "plot", "dual_pt", "bloom")
OPTIONS = {"dual_pt": {"context": "none"}}  # no descriptions are read after training


def measure(repeats: int = 5) -> list[Row]:
    """Processor seconds of a batch, ViT-B/16 and the classes of the list of short names."""
    _, _, backbone = plain.build()
    images = torch.randn(IMAGES, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    runs: dict[Callable[[], object], int] = {}
    for name in ("coop", *METHODS):
        method = build_method(name, backbone, SHORT, OPTIONS.get(name)).eval()
        text = method.frozen_text()
        assert text is not None
        runs[partial(_classify, method, text, images)] = repeats
    for run in runs:
        run()
    coop_s, *seconds = side_by_side(runs, time.process_time)
    case = f"ViT-B/16, K={len(SHORT)}, B={IMAGES}"
    return [_row(f"{name}, {case}", own_s, coop_s) for name, own_s in zip(METHODS, seconds, strict=True)]


def _classify(method: PromptMethod, text: TextFeatures, images: Tensor) -> None:
    with torch.no_grad():
        method.classify(method.encode_images(images), text)


def _row(case: str, own_s: float, coop_s: float) -> Row:
    return Row("inference", case, {"seconds": own_s, "CoOp's": coop_s, "ratio": own_s / coop_s})

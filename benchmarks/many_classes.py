"""Time and memory of a text step at 2,000 and 20,000 classes, doodle-clip's text tower, each in a fresh process.

Activations have a budget that both are beyond: memory grows up to the budget, and no further.

As a script, `python -m benchmarks.many_classes K` measures one number of classes and prints JSON.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from typing import Any

from torch import Tensor

from benchmarks.classes_scale import IN_USE, forget_peak, in_fresh_process, peak_bytes
from benchmarks.frame import Mark, Row, timed
from benchmarks.names import SHORT, WORDS
from vlmprompt.api import Backbone, load_backbone

CLASSES = (2_000, 20_000)
LINEAR, FLAT = 1.1, 1.5
BUDGET = {"VLMPROMPT_TEXT_MEMORY": "0.25"}  # gigabytes


def measure(repeats: int = 1) -> list[Row]:
    """CPU seconds and peak memory at both numbers, without the features, which are one row a class."""
    few, many = (in_fresh_process("many_classes", k, repeats, env=IN_USE | BUDGET) for k in CLASSES)
    growth, memory = many["seconds"] / few["seconds"], many["gigabytes"] / few["gigabytes"]
    figures = {f"s at K={k}": found["seconds"] for k, found in zip(CLASSES, (few, many), strict=True)}
    figures |= {f"GB at K={k}": found["gigabytes"] for k, found in zip(CLASSES, (few, many), strict=True)}
    marks = (
        Mark("times the time", growth, (CLASSES[1] / CLASSES[0]) ** LINEAR, at_least=False),
        Mark("times the memory", memory, FLAT, at_least=False),
    )
    return [Row("many_classes", "doodle-clip text, P=2, V=4, forward and backward", figures, marks)]


def one(n_classes: int, repeats: int) -> dict[str, float]:
    """CPU seconds of the fastest of some steps, and the peak of the first above what is one row a class."""
    from benchmarks.text_engine import engine_step, inputs

    backbone = load_backbone("doodle-clip")
    names = class_names(n_classes)
    ctx, grad_out = inputs(backbone, n_classes)
    ctx, grad_out = ctx[:2].clone(), grad_out[:2].clone()
    step = partial(engine_step, backbone, _tokens(backbone, names), ctx, grad_out)
    before = forget_peak()
    seconds = timed(step, time.process_time)
    held = peak_bytes() - before - _bytes(grad_out)  # the features are as large as their gradient
    more = [timed(step, time.process_time) for _ in range(repeats - 1)]
    return {"seconds": min(seconds, *more) if more else seconds, "gigabytes": held / 1e9}


def class_names(count: int) -> list[str]:
    """So many different names."""
    return [f"{a} {b} {i}" for i in range(1 + count // (len(WORDS) * len(SHORT))) for a in WORDS for b in SHORT][:count]


def _tokens(backbone: Backbone, names: list[str]) -> Any:
    return backbone.text.class_tokens(names, tail="")


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


if __name__ == "__main__":
    print(json.dumps(one(int(sys.argv[1]), int(sys.argv[2]))))

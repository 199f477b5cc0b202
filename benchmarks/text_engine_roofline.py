"""The text engine against the arithmetic limit: FLOPs strictly needed at the rate of this machine's sgemm.

In processor time, so that what else the machine does counts on neither side.
"""

from __future__ import annotations

import time
from functools import partial

from benchmarks import plain
from benchmarks.arithmetic import Tower, needed_text
from benchmarks.frame import Mark, Row, matmul, side_by_side
from benchmarks.names import SHORT
from benchmarks.text_engine import CONTEXT, PROMPTS, engine_step, inputs

SIZE = 2048


def measure(repeats: int = 7) -> list[Row]:
    """The share of the limit that the engine reaches."""
    _, _, backbone = plain.build()
    ctx, grad_out = inputs(backbone, len(SHORT))
    classes = backbone.text.class_tokens(SHORT, tail="")
    suffixes = [len(name) + len(tail) for name, tail in zip(classes.name_ids, classes.tail_ids, strict=True)]
    tower = Tower(backbone.text.width, backbone.text.layers, backbone.text.joint_dim)
    engine, product = partial(engine_step, backbone, classes, ctx, grad_out), matmul(SIZE)
    engine(), product()
    engine_s, matmul_s = side_by_side({engine: repeats, product: 5 * repeats}, time.process_time)
    rate = 2 * SIZE**3 / matmul_s
    limit_s = needed_text(tower, PROMPTS, CONTEXT, suffixes) / rate
    figures = {"engine s": engine_s, "limit s": limit_s, "sgemm GFLOP/s": rate / 1e9}
    case = f"ViT-B/16, K=50, P={PROMPTS}, V={CONTEXT}, suffixes of 3 tokens"
    return [Row("text_engine_roofline", case, figures, (Mark("share of the limit", limit_s / engine_s, 0.7),))]

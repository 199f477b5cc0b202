"""The text engine against plain encoding of all 77 positions: forward and backward to the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import plain
from benchmarks.arithmetic import Tower, needed_text, plain_text
from benchmarks.frame import Mark, Row, relative_error, side_by_side
from benchmarks.names import LONG, SHORT
from vlmprompt.api import Backbone, TextPrompts

PROMPTS, CONTEXT = 8, 4


def measure(repeats: int = 2) -> list[Row]:
    """Short names with the marks; long names, timed once, to read beside them."""
    model, tokenizer, backbone = plain.build()
    short = compare(model, tokenizer, backbone, SHORT, repeats)
    long = compare(model, tokenizer, backbone, LONG, 1)
    marks = (
        Mark("ratio", short["ratio"], 25),
        Mark("feature error", short["feature error"], 1e-5, at_least=False),
        Mark("relative gradient error", short["relative gradient error"], 1e-5, at_least=False),
    )
    shape = f"ViT-B/16, K=50, P={PROMPTS}, V={CONTEXT}"
    return [
        Row("text_engine", f"{shape}, suffixes of 3 tokens", short, marks),
        Row("text_engine", f"{shape}, suffixes of 6 tokens", long),
    ]


def compare(model: Any, tokenizer: Any, backbone: Backbone, names: Sequence[str], repeats: int) -> dict[str, float]:
    """Median seconds of both, their ratio, the arithmetic's ratio, and how far the results are apart."""
    ctx, grad_out = inputs(backbone, len(names))
    classes = backbone.text.class_tokens(names, tail="")
    ids = plain.tokens(tokenizer, names)
    suffixes = [len(name) + len(tail) for name, tail in zip(classes.name_ids, classes.tail_ids, strict=True)]
    tower = Tower(backbone.text.width, backbone.text.layers, backbone.text.joint_dim)
    slow, fast = partial(plain_step, model, ids, ctx, grad_out), partial(engine_step, backbone, classes, ctx, grad_out)
    features, gradient = fast()
    # The plain step takes minutes: it needs no warming up, and each of its runs is timed.
    results: list[tuple[Tensor, Tensor]] = []
    plain_s, engine_s = side_by_side({lambda: results.append(slow()): repeats, fast: 5 * repeats})
    reference, reference_gradient = results[-1]
    return {
        "plain s": plain_s,
        "engine s": engine_s,
        "ratio": plain_s / engine_s,
        "arithmetic ratio": plain_text(tower, PROMPTS * len(names)) / needed_text(tower, PROMPTS, CONTEXT, suffixes),
        "feature error": float((features - reference).abs().max()),
        "relative gradient error": relative_error(gradient, reference_gradient),
    }


def inputs(backbone: Backbone, n_classes: int) -> tuple[Tensor, Tensor]:
    """A context (P,V,D) and a gradient of the features (P,K,d)."""
    generator = torch.Generator().manual_seed(0)
    ctx = 0.02 * torch.randn(PROMPTS, CONTEXT, backbone.text.width, generator=generator)
    return ctx, torch.randn(PROMPTS, n_classes, backbone.text.joint_dim, generator=generator)


def engine_step(backbone: Backbone, classes: Any, ctx: Tensor, grad_out: Tensor) -> tuple[Tensor, Tensor]:
    """Features (P,K,d) and the gradient of the context."""
    ctx = ctx.clone().requires_grad_()
    features = backbone.text.encode(TextPrompts(ctx), classes)
    features.backward(grad_out)
    assert ctx.grad is not None
    return features.detach(), ctx.grad


def plain_step(model: Any, ids: Tensor, ctx: Tensor, grad_out: Tensor) -> tuple[Tensor, Tensor]:
    """The same, one prompt after the other: that takes the plain path no longer, and an eighth of the memory."""
    ctx = ctx.clone().requires_grad_()
    features = []
    for ctx_VD, grad_Kd in zip(ctx, grad_out, strict=True):
        features_Kd = plain.encode_text(model, ids, ctx_VD)
        features_Kd.backward(grad_Kd)
        features.append(features_Kd.detach())
    assert ctx.grad is not None
    return torch.stack(features), ctx.grad

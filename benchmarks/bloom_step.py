"""A whole Bloom training step against the straightforward one: 77 text positions, every image token everywhere."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import plain
from benchmarks.arithmetic import Tower, needed_image, needed_text, plain_image, plain_text
from benchmarks.frame import Mark, Row, relative_error, side_by_side
from benchmarks.names import LONG, SHORT
from vlmprompt.api import PromptMethod, build_method

IMAGES, DEPTH = 4, 12
NAMES = SHORT + LONG[:20] + tuple(f"small {name}" for name in SHORT[:30])


def measure(repeats: int = 5) -> list[Row]:
    """The ratio of the two steps beside what the arithmetic allows."""
    model, tokenizer, backbone = plain.build()
    generator = torch.Generator().manual_seed(0)
    method = build_method("bloom", backbone, NAMES, {"depth": DEPTH}, generator=generator)
    images = torch.randn(IMAGES, 3, 224, 224, generator=generator)
    labels = torch.randint(len(NAMES), (IMAGES,), generator=generator)
    words = method.text_prompts().words  # type: ignore[union-attr]
    ids = plain.tokens(tokenizer, [f"{words} {name}." for name in NAMES])
    slow = partial(step, method, labels, partial(plain_logits, method, model, images, ids))
    fast = partial(step, method, labels, lambda: method(images).logits)
    apart = max(relative_error(a, b) for a, b in zip(fast(), slow(), strict=True))
    plain_s, engine_s = side_by_side({slow: repeats, fast: 3 * repeats})
    arithmetic = arithmetic_ratio(method)
    figures = {
        "plain s": plain_s,
        "engine s": engine_s,
        "ratio": plain_s / engine_s,
        "arithmetic ratio": arithmetic,
    }
    marks = (
        Mark("share of the arithmetic ratio", plain_s / engine_s / arithmetic, 0.8),
        Mark("relative gradient error", apart, 1e-4, at_least=False),
    )
    return [Row("bloom_step", f"ViT-B/16, K={len(NAMES)}, B={IMAGES}, depth {DEPTH}", figures, marks)]


def step(method: PromptMethod, labels: Tensor, logits: Callable[[], Tensor]) -> list[Tensor]:
    """Forward, backward and update (at rate 0, so that every repeat does the same); the gradients."""
    optimizer = torch.optim.SGD(method.trainable_parameters(), lr=0.0, momentum=0.9)
    optimizer.zero_grad()
    F.cross_entropy(logits(), labels).backward()
    optimizer.step()
    return [p.grad.clone() for p in method.trainable_parameters() if p.grad is not None]


def plain_logits(method: PromptMethod, model: Any, images: Tensor, ids: Tensor) -> Tensor:
    """The same prompts through the straightforward towers: (B,K)."""
    prompts = method.text_prompts()
    assert prompts is not None
    deep = {layer: slots_PSD[0] for layer, slots_PSD in prompts.deep.items()}
    text_Kd = plain.encode_text(model, ids, prompts.ctx[0], deep)
    image_Bd = plain.encode_image(model, images, method.visual_prompts())
    return method.scale * F.normalize(image_Bd, dim=-1) @ F.normalize(text_Kd, dim=-1).T


def arithmetic_ratio(method: PromptMethod) -> float:
    """FLOPs of the straightforward step over those strictly needed."""
    text = method.backbone.text
    spent = plain_text(Tower(text.width, text.layers, text.joint_dim), len(method.classes))
    spent += plain_image(*_image(method, IMAGES))
    return spent / needed_step(method, IMAGES)


def needed_step(method: PromptMethod, n_images: int) -> float:
    """FLOPs that a step needs."""
    text, classes = method.backbone.text, method.classes
    prompts = method.text_prompts()
    assert prompts is not None
    prefix = prompts.ctx.shape[1] + len(text.embed_words(prompts.words))
    suffixes = [len(name) + len(tail) for name, tail in zip(classes.name_ids, classes.tail_ids, strict=True)]
    tower = Tower(text.width, text.layers, text.joint_dim)
    return needed_text(tower, 1, prefix, suffixes) + needed_image(*_image(method, n_images))


def _image(method: PromptMethod, n_images: int) -> tuple[Tower, int, int, int, int]:
    """What `plain_image` and `needed_image` ask for."""
    vision = method.backbone.vision
    tower = Tower(vision.width, vision.layers, vision.joint_dim)
    return tower, n_images, vision.n_local, len(method.visual_prompts()[0]), 3 * 16 * 16

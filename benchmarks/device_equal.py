"""Whether a device computes what the CPU computes: every installed method on doodle-clip, a step on a ViT-B/16, bf16.

Shapes: B images, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.device_sizes import Setting
from benchmarks.frame import Mark, Row
from benchmarks.names import SHORT
from vlmprompt.api import Backbone, ImageFeatures, PromptMethod, build_method, load_backbone
from vlmprompt.plugins import host

CLASSES = ("red fox", "green frog", "blue whale", "grey wolf")
PHRASES = (("a bushy tail", "orange fur"), ("wet skin",), ("a blowhole", "a wide tail"), ("pointed ears",))
FITTED, LOOPLESS = frozenset({"closed_form", "fit_first"}), frozenset({"closed_form", "training_free"})
# Dropout draws where the tensors are: the two would drop different values.
OPTIONS: dict[str, dict[str, Any]] = {"clip_lora": {"dropout": 0.0}}
SAME, NEAR = 1e-4, 0.02


def methods(setting: Setting) -> Iterator[Row]:
    """A row a method: its logits, loss and gradients on the device and on the CPU, from the same initial values."""
    near, far = (load_backbone("doodle-clip", device=str(place)) for place in ("cpu", setting.device))
    for name in sorted(host().methods.names()):
        yield _compared(name, CLASSES, near, far, SAME)


def step_of_vit(setting: Setting) -> Iterator[Row]:
    """The same of one method on full-size towers (on a CPU: on the small ones)."""
    near, far = (
        load_backbone(setting.sizes.tower, device=str(place), random_weights=0) for place in ("cpu", setting.device)
    )
    yield _compared("coop", SHORT[:10], near, far, SAME)


def reduced_precision(setting: Setting) -> Iterator[Row]:
    """How far bf16 towers are from fp32 ones on the device, and what a pass costs."""
    full, half = (
        load_backbone(setting.sizes.tower, device=str(setting.device), random_weights=0, precision=precision)
        for precision in ("fp32", "bf16")
    )
    images = _images(full, setting.sizes.images)
    logits, seconds = [], []
    for towers in (full, half):
        method = build_method("zeroshot", towers, SHORT[:10]).eval()
        with torch.no_grad():
            logits.append(method(images).logits.float())
            seconds.append(setting.seconds(partial(method, images)))
    apart = float((logits[0] - logits[1]).abs().max()) / full.scale
    figures = {"fp32 s": seconds[0], "bf16 s": seconds[1], "fp32 over bf16": seconds[0] / seconds[1]}
    mark = Mark("difference of cosines", apart, NEAR, at_least=False)
    yield Row("bf16", f"zeroshot, {setting.sizes.tower}, B={len(images)}", figures, (mark,))


def _compared(name: str, classes: Sequence[str], near: Backbone, far: Backbone, bound: float) -> Row:
    here, there = (outcome(name, classes, towers) for towers in (near, far))
    errors = {what: _apart(there[what], here[what]) for what in here}
    mark = Mark("largest relative difference", max(errors.values()), bound, at_least=False)
    return Row("equal", f"{name}, {near.name}, K={len(classes)}", errors, (mark,))


def outcome(name: str, classes: Sequence[str], towers: Backbone) -> dict[str, Tensor]:
    """What a method computes of four images on its towers' device: of loss, gradients and logits what it has.

    It is fitted or takes one step's forward and backward pass, each where that is its way of learning.
    """
    described = [PHRASES[i % len(PHRASES)] for i in range(len(classes))]
    generator = torch.Generator().manual_seed(0)
    method = build_method(name, towers, classes, OPTIONS.get(name), descriptions=described, generator=generator)
    images = _images(towers, 4)
    labels_B = torch.arange(4, device=towers.device)
    found: dict[str, Tensor] = {}
    method.train()
    if method.capabilities & FITTED:
        rows = [_features(method, images + 0.01 * view, labels_B) for view in range(method.fit_views)]
        method.fit(ImageFeatures.cat(rows), labels_B.repeat(method.fit_views), None)
    if not method.capabilities & LOOPLESS:
        method.start_epoch(0, 1)
        features = _features(method, images, labels_B) if "feature_cache" in method.capabilities else images
        output = method.on_views((features,) * method.training_views)
        losses = method.loss(output, labels_B)
        losses.total.backward()
        found["loss"] = losses.total.detach().cpu()
        grads = [p.grad.flatten().cpu() for p in method.trainable_parameters() if p.grad is not None]
        found["gradients"] = torch.cat(grads)
    method.eval()
    with torch.no_grad():
        found["logits"] = method(images).logits.cpu()
    return found


def _features(method: PromptMethod, images: Tensor, labels_B: Tensor) -> ImageFeatures:
    """As they are computed once for a run."""
    with torch.no_grad():
        found = method.backbone.encode_image(images, method.image_needs())
        extra = method.image_extra(images, labels_B)
    return ImageFeatures(found.global_Bd, found.local_BNc, extra).to(images.device, torch.float32)


def _images(towers: Backbone, count: int) -> Tensor:
    """Noise on a colour of each image's own, (B,3,H,W)."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(count, 3, *towers.preprocess.sides, generator=generator)
    return (noise / 2 + torch.randn(count, 3, 1, 1, generator=generator)).to(towers.device)


def _apart(value: Tensor, reference: Tensor) -> float:
    """Largest difference over the largest reference value, 0 where both are 0."""
    difference, size = float((value - reference).abs().max()), float(reference.abs().max())
    return difference / size if size else difference

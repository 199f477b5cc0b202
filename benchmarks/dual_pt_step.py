"""A training step of DUAL-PT on the built-in world from cached features, and the share of its transport plans."""

from __future__ import annotations

import time
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.frame import Mark, Row, side_by_side
from vlmprompt.api import (
    ImageFeatures,
    PromptMethod,
    TransportCaps,
    build_method,
    load_backbone,
    load_dataset,
    transport_plan,
)
from vlmprompt.data.images import read_image

IMAGES, STEPS = 32, 20
ALPHA, LAMBDA = 0.2, 0.1  # the method's own


def measure(repeats: int = 15) -> list[Row]:
    """Processor seconds of a step and of its plans alone, with prompts as they begin and after some steps."""
    backbone, dataset = load_backbone("doodle-clip"), load_dataset("doodles")
    generator = torch.Generator().manual_seed(0)
    method = build_method("dual_pt", backbone, dataset.class_names, {"context": "none"}, generator=generator)
    records = dataset.splits["train"]
    chosen = [records[i] for i in torch.randperm(len(records), generator=generator)[:IMAGES].tolist()]
    labels = torch.tensor([record.label for record in chosen])
    to_tensor = backbone.transform(train=False)
    images = torch.stack([to_tensor(read_image(record)) for record in chosen])
    features = backbone.encode_image(images, method.image_needs())
    rows = [_row("at the start", method, features, labels, repeats)]
    for _ in range(STEPS):
        step(method, features, labels, rate=0.5)
    return [*rows, _row(f"after {STEPS} steps", method, features, labels, repeats)]


def _row(when: str, method: PromptMethod, features: ImageFeatures, labels: Tensor, repeats: int) -> Row:
    assert features.local_BNc is not None
    with torch.no_grad():
        W_KMd = method.encode_text().unit_PKd.transpose(0, 1)
        Z_BNd = F.normalize(features.local_BNc, dim=-1)
    whole = partial(step, method, features, labels, rate=0.0)
    plans = partial(transport_plan, Z_BNd, W_KMd, alpha=ALPHA, lambda_=LAMBDA, caps=TransportCaps(inner=1))
    whole(), plans()
    step_s, plans_s = side_by_side({whole: repeats, plans: repeats}, time.process_time)
    figures = {"step s": step_s, "plans s": plans_s}
    case = f"doodle-clip, K={len(method.class_names)}, B={len(labels)}, {when}"
    return Row("dual_pt_step", case, figures, (Mark("share of the plans", plans_s / step_s, 0.45, at_least=False),))


def step(method: PromptMethod, features: ImageFeatures, labels: Tensor, *, rate: float) -> None:
    """Forward, backward and update."""
    optimizer = torch.optim.SGD(method.trainable_parameters(), lr=rate)
    optimizer.zero_grad()
    method.loss(method(features), labels).total.backward()
    optimizer.step()

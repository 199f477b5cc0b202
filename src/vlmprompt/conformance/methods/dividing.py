"""That several processes may divide what a method says they may.

Shapes: B images, K classes, P prompts, d joint width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vlmprompt.backbones.types import unit
from vlmprompt.conformance import material
from vlmprompt.conformance.check import require, skip
from vlmprompt.conformance.methods.batches import TOGETHER
from vlmprompt.conformance.methods.case import MethodCase, loops, on_views, own_copy, training_inputs
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.divided import divides_classes, divides_rows
from vlmprompt.parallel.classes import prompts_of, tokens_of

NEAR = 1e-4  # of the largest gradient
DRAWS = "draw for the whole batch in loss_draws(n_images), and let loss take these draws"


def images_of_a_batch_are_apart(case: MethodCase) -> None:
    """`row_split` means it: the loss of a batch is the weighted mean of the losses of its parts, gradients too."""
    method = case.build().train()
    if not divides_rows(method) or not loops(method):
        skip("it does not say that a batch may be divided")
    if "fit_first" in method.capabilities:
        case.fit(method)
    method.start_epoch(0, 1)
    n = len(material.LABELS_B)
    whole, first, second = (own_copy(method) for _ in range(3))
    loss = _backward(case, whole, slice(0, n))
    total = _backward(case, first, slice(0, 1)) + _backward(case, second, slice(1, n))
    same = all(torch.equal(whole.rng_state(), part.rng_state()) for part in (first, second))
    require(same, "a part of a batch draws other numbers", DRAWS)
    require(
        abs(loss - total) <= NEAR * max(1.0, abs(loss)),
        f"row_split is among the capabilities, but the loss of a batch is {loss:.6g}, and of its parts {total:.6g}",
        f"drop row_split where images of a batch touch each other; {DRAWS}",
    )
    others = [dict(part.named_parameters()) for part in (first, second)]
    for name, parameter in whole.named_parameters():
        parts = [own[name].grad for own in others]
        require(
            _near(parameter.grad, parts),
            f"row_split is among the capabilities, but the parts of a batch give {name} another gradient",
            "drop row_split where images of a batch touch each other",
        )


def classes_are_apart(case: MethodCase) -> None:
    """`class_shard` means it: text features of a class do not depend on the others that are encoded with it."""
    method = case.learned()
    if not divides_classes(method):
        skip("it does not say that classes may be divided")
    with torch.no_grad():
        prompts, whole_PKd = method.text_prompts(), method.encode_text().features_PKd
        assert prompts is not None
        encode = method.backbone.text.encode
        slices = (slice(0, 1), slice(1, len(method.class_names)))
        parts = [encode(prompts_of(prompts, part), tokens_of(method.classes, part)) for part in slices]
    apart = float((unit(torch.cat(parts, dim=-2)) - unit(whole_PKd)).abs().max())
    require(
        apart <= TOGETHER,
        f"class_shard is among the capabilities, but text features of parts of the classes are {apart:.2g} apart",
        "drop class_shard; or leave encode_text as it is, with classes that do not touch each other",
    )


def _backward(case: MethodCase, method: PromptMethod, part: slice) -> float:
    """The part of a batch's loss, its gradients added."""
    labels_B, inputs = material.LABELS_B, training_inputs(method, case.images)
    output = on_views(method, inputs[part])
    drawn = method.loss_draws(len(labels_B))
    more: dict[str, Any] = {"draws": {name: own[part] for name, own in drawn.items()}} if drawn else {}
    own = labels_B[part]
    loss = method.loss(output, own, **more).total * (len(own) / len(labels_B))
    loss.backward()
    return float(loss)


def _near(whole: Tensor | None, parts: Sequence[Tensor | None]) -> bool:
    """Whether the gradients of parts add up to that of the whole; None is none."""
    there = [grad for grad in parts if grad is not None]
    if whole is None or not there:
        return not any(grad.any() for grad in (*there, *([] if whole is None else [whole])))
    return float((whole - sum(there)).abs().max()) <= NEAR * max(1.0, float(whole.abs().max()))

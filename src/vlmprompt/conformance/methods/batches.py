"""What a method says of batches of any size, of towers of any precision."""

from __future__ import annotations

import torch

from vlmprompt.conformance import material
from vlmprompt.conformance.check import require, skip
from vlmprompt.conformance.methods.case import SAME, MethodCase, distance, loops, on_views
from vlmprompt.errors import InputError, UsageError

# bf16 moves a cosine by about 1e-2; what a method makes of it may be some times that.
REDUCED = 0.06
TOGETHER = 5 * SAME  # a matrix product of other sizes adds in another order


def logits_are_finite(case: MethodCase) -> None:
    """Logits are finite, in training and in evaluation."""
    method = case.learned()
    step = "guard divisions and logarithms; features of both towers are finite"
    require(bool(case.logits(method).isfinite().all()), "logits are not finite in evaluation", step)
    if loops(method):
        with torch.no_grad():
            method.train().start_epoch(0, 1)
            output = method(case.images) if "feature_cache" not in method.capabilities else None
        finite = output is None or bool(output.logits.isfinite().all())
        require(finite, "logits are not finite in training mode", step)


def one_image(case: MethodCase) -> None:
    """A batch of one image works."""
    method = case.learned()
    found = case.logits(method, case.images[:1])
    require(bool(found.isfinite().all()), "logits of a single image are not finite", "use no statistics over the batch")


def images_do_not_depend_on_each_other(case: MethodCase) -> None:
    """An image's logits in evaluation do not depend on the others in its batch."""
    method = case.learned()
    whole = case.logits(method)
    single = torch.cat([case.logits(method, image[None]) for image in case.images])
    apart = distance(whole, single, method)
    require(
        apart <= TOGETHER,
        f"logits in a batch are {apart:.2g} of a cosine from those of the images one by one",
        "use no statistics over the batch in eval mode",
    )


def one_class(case: MethodCase) -> None:
    """A single class works, or is refused in words."""
    names = material.NAMES[:1]
    try:
        method = case.build(names)
        logits = case.logits(method)
    except (InputError, UsageError) as refusal:
        skip(f"it refuses a single class: {refusal.message}")
    require(bool(logits.isfinite().all()), "logits over a single class are not finite", "guard divisions by K - 1")
    if loops(method) and "fit_first" not in method.capabilities:
        method.train().start_epoch(0, 1)
        inputs = case.images[:2]
        with method.blamed():
            total = method.loss(on_views(method, inputs), torch.zeros(2, dtype=torch.int64)).total
        require(bool(total.isfinite()), "the loss over a single class is not finite", "guard divisions by K - 1")


def towers_in_bf16(case: MethodCase) -> None:
    """Over towers in bf16 a method computes in fp32 and says nearly the same."""
    exact, reduced = case.build(), case.build(backbone=material.towers("bf16"))
    if loops(reduced) and "fit_first" not in reduced.capabilities:
        reduced.train().start_epoch(0, 1)
        losses = case.losses(reduced)
        require(bool(losses.total.isfinite()), "the loss is not finite over towers in bf16", "compute it in fp32")
        losses.total.backward()
        grads = {n: p.grad for n, p in reduced.named_parameters() if p.grad is not None}
        wrong = [n for n, g in grads.items() if g.dtype != torch.float32 or not g.isfinite().all()]
        require(not wrong, f"gradients of {', '.join(wrong)} are no finite fp32", "keep parameters in fp32")
    near, plain = case.logits(reduced), case.logits(exact)
    require(
        near.dtype == torch.float32,
        f"logits are {near.dtype} over towers in bf16",
        "normalise with vlmprompt.api.unit, which gives fp32, before cosines are taken",
    )
    apart = distance(near, plain, exact)
    require(
        apart <= REDUCED,
        f"logits over towers in bf16 are {apart:.2g} of a cosine from those in fp32",
        "compute in fp32 all that is not in the towers",
    )

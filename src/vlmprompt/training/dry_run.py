"""What a run would do and cost: everything is built, one batch goes forward and backward, nothing is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.features import feature_bytes
from vlmprompt.backbones.types import ImageFeatures, TextFeatures
from vlmprompt.backbones.unrecorded import plainly
from vlmprompt.config.models import RunConfig, Runtime
from vlmprompt.errors import CapabilityError
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.groups import USUAL, groups_of
from vlmprompt.progress import Progress, SilentProgress
from vlmprompt.training.batches import ImageBatches, TrainBatch
from vlmprompt.training.doubtful import warn
from vlmprompt.training.fitting import val_use
from vlmprompt.training.loop import forward
from vlmprompt.training.outlook import in_words, warmup_steps
from vlmprompt.training.provenance import peak_memory
from vlmprompt.training.saved_bytes import SavedBytes
from vlmprompt.training.schedule import last_rate, step_rate
from vlmprompt.training.setup import Setup, build, complete, settle_device
from vlmprompt.training.trainset import load_trainset
from vlmprompt.training.views import view_lines

TIMED_STEPS = 3


def dry_run(
    config: RunConfig,
    runtime: Runtime | None = None,
    *,
    progress: Progress | None = None,
    sources: Mapping[str, str] | None = None,
    backbone: Backbone | None = None,
) -> dict[str, Any]:
    """Build a run and put one batch through it.

    Args:
        sources, backbone: see `train`.

    Returns:
        A JSON-able report: `data`, `shapes`, `parameters` (by name, `total`, and `groups` that learn otherwise),
        `plan`, `features`, `views` (see `Views`; None without a loop), `flops` (of a step: `image`, `text` and
        `classify`, what brings them together, forward and backward; and `step`, the whole), `memory` (`activations`:
        saved for the backward pass; peaks so far; all in bytes), `cache` (size of cached features, or None), `seconds`
        (`step`, `features`, `total`; estimates from a few timed steps).

    Raises:
        VlmPromptError: whatever `train` would say before its first step.
    """
    runtime = runtime or Runtime.model_validate({})
    progress = progress or SilentProgress()
    config = complete(config)
    device = settle_device(config, runtime)
    setup = build(config, runtime, load_trainset(config, runtime), device, backbone)
    warn(setup, progress, sources or {})
    setup.method.train()
    with progress.task("dry run", None, unit="step") as task, setup.method.blamed(wide=True):
        batch = _first_batch(setup)
        report = {**_static(setup), **_measured(setup, batch), "seconds": _seconds(setup, batch)}
        task.advance()
    return report | {"memory": report["memory"] | peak_memory(device)}


def _first_batch(setup: Setup) -> TrainBatch:
    """A batch of images, whichever way the run would get them; any images for a method without training."""
    train, dataset = setup.config.train, setup.data.dataset
    augment = train.augment and not setup.cached
    batches = ImageBatches(
        setup.data.split.train or next((rows for rows in dataset.splits.values() if rows), ()),
        setup.backbone.transform(train=augment),
        train.batch_size,
        seed=setup.config.seed,
        augment=augment,
        device=setup.device,
        workers=0,
    )
    return next(batches.epoch(0, skip=0, steps=1))


def _static(setup: Setup) -> dict[str, Any]:
    """What is known without computing."""
    data, plan, train, method = setup.data, setup.plan, setup.config.train, setup.method
    learned = {name: p for name, p in method.named_parameters() if p.requires_grad}
    steps: dict[str, Any] = {"epochs": 0, "steps_per_epoch": 0, "steps": 0, "batch_size": train.batch_size}
    steps |= {"in_words": {"plan": "0 steps: nothing is trained in a loop"}}
    if plan is not None:
        steps |= {"epochs": plan.epochs, "steps_per_epoch": plan.steps_per_epoch, "steps": plan.steps}
        steps |= {"warmup_epochs": train.warmup_epochs, "warmup_steps": warmup_steps(train, plan)}
        steps |= {"schedule": train.schedule, "first_lr": step_rate(train, plan, 0, 0)}
        steps |= {"last_lr": last_rate(train, plan), "in_words": in_words(train, plan)}
    if (use := val_use(setup)) is not None:
        steps["in_words"] = {**steps["in_words"], "val use": use}
    rows = setup.computed_rows
    return {
        "method": setup.config.method,
        "backbone": setup.backbone.spec,
        "device": str(setup.device),
        "precision": train.precision,
        "data": {
            "name": data.dataset.name,
            "classes": len(data.class_names),
            "train_images": len(data.split.train),
            "val_images": len(data.split.val),
            "unlabelled_images": len(data.unlabelled),
        },
        "parameters": {
            "tensors": {name: list(p.shape) for name, p in learned.items()},
            "total": sum(p.numel() for p in learned.values()),
            "groups": {name: group.words for name, group in groups_of(method).items() if group != USUAL},
        },
        "plan": steps,
        "features": setup.features,
        "views": None if setup.views is None else setup.views.report(),
        "cache": feature_bytes(method.image_needs(), setup.backbone, rows) if rows else None,
    }


def _measured(setup: Setup, batch: TrainBatch) -> dict[str, Any]:
    """Shapes, operations and activations of one step."""
    method, images = setup.method, _images(batch)
    draws = method.sample_draws()
    features = _features(method, batch, draws)
    with torch.no_grad():
        logits = method(features, draws=draws).logits
    text = _text_features(method, features, draws)
    shapes = {"images": images, **{f"features.{name}": t for name, t in features.tensors().items()}}
    shapes |= {} if text is None else {"text_features": text}
    inputs = features if setup.cached else images
    flops = {
        "image": 0 if setup.cached else _flops(lambda: method.encode_images(images, draws=draws).global_Bd),
        "text": _flops(lambda: method.encode_text(features.global_Bd, draws=draws).features_PKd)
        if text is not None
        else 0,
        "classify": _flops(lambda: method.classify(features, TextFeatures(text.requires_grad_())).logits)
        if text is not None
        else 0,
        "step": _flops(lambda: _loss(setup, inputs, batch.labels_B)),
    }
    saved = SavedBytes()
    with saved.counting():
        _loss(setup, inputs, batch.labels_B)
    listed = {name: list(tensor.shape) for name, tensor in {**shapes, "logits": logits}.items()}
    return {"shapes": listed, "flops": flops, "memory": {"activations": saved.total}}


def _seconds(setup: Setup, batch: TrainBatch) -> dict[str, float]:
    """Estimates from a few steps, after one to warm up."""
    method, images, plan = setup.method, _images(batch), setup.plan
    features = _features(method, batch, method.sample_draws())
    rows = setup.computed_rows
    features_s = rows / len(images) * _time(setup.device, lambda: method.encode_images(images), 1) if rows else 0.0
    if plan is None:
        return {"step": 0.0, "features": features_s, "total": features_s}
    inputs = features if setup.cached else images
    step_s = _time(setup.device, lambda: _backward(_loss(setup, inputs, batch.labels_B)), TIMED_STEPS)
    return {"step": step_s, "features": features_s, "total": features_s + step_s * plan.steps}


def _images(batch: TrainBatch) -> Tensor:
    assert isinstance(batch.images, Tensor)
    return batch.images


def _features(method: PromptMethod, batch: TrainBatch, draws: Mapping[str, Tensor]) -> ImageFeatures:
    """What the feature cache would hold of the batch."""
    images = _images(batch)
    with torch.no_grad():
        raw = method.encode_images(images, draws=draws)
        return replace(raw, extra=method.image_extra(images, batch.labels_B))


def _text_features(method: PromptMethod, features: ImageFeatures, draws: Mapping[str, Tensor]) -> Tensor | None:
    """(P,K,d) or (B,P,K,d); None for a method without text."""
    try:
        with torch.no_grad():
            return method.encode_text(features.global_Bd, draws=draws).features_PKd
    except CapabilityError:  # it reads no text
        return None


def _loss(setup: Setup, inputs: Tensor | ImageFeatures, labels_B: Tensor) -> Tensor:
    """That of a step: of as many views as the method takes, and of as many images without labels."""
    method = setup.method
    views = (inputs,) * method.training_views
    unlabelled = views if method.reads_unlabelled else ()
    batch = TrainBatch(inputs, labels_B, torch.arange(len(labels_B)), views[1:], unlabelled)
    with method.blamed():
        return forward(method, batch, setup.weights_K)[1].total


def _backward(value: Tensor) -> None:
    """The backward pass, where there is one."""
    if value.requires_grad:
        value.sum().backward()


def _flops(compute: Callable[[], Tensor]) -> int:
    """Floating-point operations of a computation and its backward pass (a multiplication and an addition are 2).

    Attention and linear maps run as plain products here: fused kernels differ between machines, and some are not
    counted.
    """
    with plainly(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        _backward(compute())
    return int(counter.get_total_flops())


def _time(device: torch.device, work: Callable[[], object], repeats: int) -> float:
    work()
    _wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    _wait(device)
    return (time.perf_counter() - start) / repeats


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """The report for people."""
    plan, data, seconds = report["plan"], report["data"], report["seconds"]
    flops = ", ".join(f"{name} {value / 1e9:.3g} G" for name, value in report["flops"].items())
    unlabelled = f", {data['unlabelled_images']} more without labels" if data["unlabelled_images"] else ""
    memory = ", ".join(f"{name} {value / 1e6:.1f} MB" for name, value in report["memory"].items())
    learned = report["parameters"]["tensors"]
    grows = ", not counting what the fit adds" if any(0 in shape for shape in learned.values()) else ""
    return [
        f"run       {report['method']} on {report['backbone']}, {report['device']}, {report['precision']}",
        f"data      {data['name']}: {data['classes']} classes, {data['train_images']} training images{unlabelled}",
        f"images    {report['features']}",
        *([] if report["cache"] is None else [f"cache     {report['cache'] / 1e6:.1f} MB of features"]),
        *(f"shape     {name} {tuple(shape)}" for name, shape in report["shapes"].items()),
        *(
            f"trains    {name} {tuple(shape)}{', filled by the fit' if 0 in shape else ''}"
            for name, shape in learned.items()
        ),
        *(f"learns    {name} at {words}" for name, words in report["parameters"]["groups"].items()),
        f"trains    {report['parameters']['total']:,} parameters in all{grows}",
        f"FLOPs     {flops} (forward and backward, a step)",
        *view_lines(report),
        f"memory    {memory}",
        *(f"{what:<10}{words}" for what, words in plan["in_words"].items()),
        f"time      about {seconds['total']:.0f} s, {seconds['step']:.3g} s a step; decoding images is not counted",
    ]

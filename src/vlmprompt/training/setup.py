"""From a configuration to what a run is made of; training and the dry run start here."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.features import CachedFeatures, extract
from vlmprompt.backbones.load import load_backbone
from vlmprompt.config.models import RunConfig, Runtime
from vlmprompt.errors import UsageError
from vlmprompt.methods.build import build_method, method_config
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.progress import Progress
from vlmprompt.training.batches import Batches, FeatureBatches, ImageBatches
from vlmprompt.training.device import require_precision, resolve_device
from vlmprompt.training.schedule import Plan
from vlmprompt.training.trainset import TrainSet

LOOPLESS = frozenset({"closed_form", "training_free"})


@dataclass(frozen=True)
class Setup:
    """The parts of a run.

    Attributes:
        plan: of the loop; None for methods without one.
    """

    config: RunConfig
    runtime: Runtime
    device: torch.device
    data: TrainSet
    backbone: Backbone
    method: PromptMethod
    plan: Plan | None

    @property
    def cached(self) -> bool:
        """Whether training reads features computed once."""
        return "closed_form" in self.method.capabilities or (self.plan is not None and self.config.train.views > 0)

    @property
    def features(self) -> str:
        """How images reach the method, in words for run.json."""
        views = self.config.train.views
        if "training_free" in self.method.capabilities:
            return "no training images"
        if views == 1 or "closed_form" in self.method.capabilities:
            return "features of one deterministic view of each image, computed once"
        if views:
            return f"features of {views} recorded random views of each image, computed once; one drawn per epoch"
        return "fresh augmentation every epoch" if self.config.train.augment else "the test transform, every epoch"


def complete(config: RunConfig) -> RunConfig:
    """The configuration with every option of its method, checked.

    Raises:
        UsageError: unknown method, option or preset, or a value that is not allowed.
    """
    given = config.options if config.preset is None else {"preset": config.preset, **config.options}
    options = method_config(config.method, given).model_dump(mode="json")
    return config.model_copy(update={"options": options})


def settle_device(config: RunConfig, runtime: Runtime) -> torch.device:
    """The device, known to serve the run's precision.

    Raises:
        UsageError, InputError: see `resolve_device` and `require_precision`.
    """
    device = resolve_device(runtime.device)
    require_precision(device, config.train.precision)
    return device


def build(
    config: RunConfig, runtime: Runtime, data: TrainSet, device: torch.device, backbone: Backbone | None
) -> Setup:
    """Load the towers and build the method.

    Args:
        backbone: use this one instead of loading `config.backbone`.

    Raises:
        UsageError: `views` with a method that cannot use them, or a run of 0 steps.
        VlmPromptError: see `load_backbone` and `build_method`.
    """
    setup = untrained(config, runtime, data, device, backbone)
    if LOOPLESS & setup.method.capabilities:
        return setup
    _require_views(config, setup.method)
    return replace(setup, plan=Plan.of(config.train, len(data.split.train)))


def untrained(
    config: RunConfig, runtime: Runtime, data: TrainSet, device: torch.device, backbone: Backbone | None
) -> Setup:
    """The towers and the method with its initial values, without a plan; see `build`."""
    towers = backbone or load_backbone(
        config.backbone,
        device=str(device),
        precision=config.train.precision,
        quick_gelu=config.quick_gelu,
        random_weights=config.random_weights,
        image_size=config.image_size,
    )
    generator = torch.Generator().manual_seed(config.seed)
    method = build_method(
        config.method, towers, data.class_names, config.options, descriptions=data.descriptions, generator=generator
    )
    return Setup(config, runtime, device, data, towers, method, None)


def warn(setup: Setup, progress: Progress) -> None:
    """Say what was doubtful in the data, and which settings do nothing in this run."""
    train, plan = setup.config.train, setup.plan
    for doubt in (*setup.data.dataset.warnings, *setup.data.split.doubts):
        progress.warn(doubt)
    if setup.config.descriptions is not None and setup.data.description_file is None:
        progress.warn(f"method {setup.config.method!r} reads no descriptions: --descriptions has no effect on it")
    if plan is None and (train.views > 1 or train.max_steps is not None):
        progress.warn(f"method {setup.config.method!r} has no training loop: views and max_steps have no effect")
    if plan is not None and train.warmup_epochs >= plan.epochs:
        progress.warn(
            f"the whole run ({plan.epochs} of {train.warmup_epochs} epochs of warm-up) is at the rate "
            f"{train.warmup_lr:g}, lr = {train.lr:g} is never reached; lower warmup_epochs or train longer"
        )


def make_batches(setup: Setup, progress: Progress) -> Batches:
    """The source of training batches, with features computed now if the run caches them."""
    config, records = setup.config, setup.data.split.train
    if setup.cached:
        cached = train_features(setup, config.train.views, progress)
        return FeatureBatches(cached, config.train.batch_size, seed=config.seed, device=setup.device)
    return ImageBatches(
        records,
        setup.backbone.transform(train=config.train.augment),
        config.train.batch_size,
        seed=config.seed,
        augment=config.train.augment,
        device=setup.device,
        workers=setup.runtime.workers,
    )


def train_features(setup: Setup, views: int, progress: Progress) -> CachedFeatures:
    """Features of the training images."""
    return extract(
        setup.method,
        setup.data.split.train,
        backbone=setup.backbone,
        runtime=setup.runtime,
        views=views,
        seed=setup.config.seed,
        batch_size=setup.config.train.eval_batch_size,
        progress=progress,
        description="features of training images",
    )


def _require_views(config: RunConfig, method: PromptMethod) -> None:
    if not config.train.views:
        return
    reason = None
    if method.image_needs().grad:
        reason = "it trains through the image tower, so an image's features change at every step"
    elif "feature_cache" not in method.capabilities:
        reason = "it does not say that it can train on features computed once"
    if reason:
        raise UsageError(
            f"views = {config.train.views} cannot be used with method {config.method!r}: {reason}",
            hint="leave --views out",
        )

"""From a configuration to what a run is made of; training and the dry run start here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.features import CachedFeatures, extract
from vlmprompt.backbones.load import load_backbone
from vlmprompt.config.keys import dumped_options
from vlmprompt.config.models import RunConfig, Runtime, TrainConfig
from vlmprompt.config.templates import as_tuple, template_values
from vlmprompt.data.splits import shortened
from vlmprompt.methods.build import build_method, method_config, template_option, written_for
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.texts import require_texts_fit
from vlmprompt.progress import Progress
from vlmprompt.training.batches import Batches, FeatureBatches, ImageBatches
from vlmprompt.training.device import require_precision, resolve_device
from vlmprompt.training.outlook import doubts
from vlmprompt.training.require import require_validation, require_views, require_weights
from vlmprompt.training.schedule import Plan
from vlmprompt.training.trainset import TrainSet
from vlmprompt.training.weights import class_weights, is_balanced

LOOPLESS = frozenset({"closed_form", "training_free"})
# Settings of the loop that nobody sets for other reasons; a method without one says which it was given in vain.
LOOP_ONLY = ("views", "max_steps", "class_weights", "sampling", "validate_every", "keep", "patience")


@dataclass(frozen=True)
class Setup:
    """The parts of a run.

    Attributes:
        plan: of the loop; None for methods without one.
        weights_K: of classes in the loss, see `class_weights`; None where all weigh the same.
    """

    config: RunConfig
    runtime: Runtime
    device: torch.device
    data: TrainSet
    backbone: Backbone
    method: PromptMethod
    plan: Plan | None
    weights_K: Tensor | None = None

    @property
    def train_labels(self) -> list[int]:
        """Of the training images, in their order."""
        return [record.label for record in self.data.split.train]

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
    taken = template_values(template_option(config.method), config.templates)
    taken = {key: value for key, value in taken.items() if given.get(key) is None}
    options = dumped_options(method_config(config.method, {**given, **taken}))
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
        UsageError, InputError: a setting that the method or the data cannot serve (see `require`), a run of 0 steps, or
            the text of a class is too long for the tower.
        VlmPromptError: see `load_backbone` and `build_method`.
    """
    setup = untrained(config, runtime, data, device, backbone)
    method, train = setup.method, config.train
    if "training_free" in method.capabilities:
        return setup
    require_weights(config, method)
    if "closed_form" in method.capabilities:
        return setup
    require_views(config, method)
    require_validation(config, method, data)
    weights_K = class_weights(train.class_weights, data.class_names, setup.train_labels)
    plan = Plan.of(train, len(data.split.train))
    return replace(setup, plan=plan, weights_K=None if weights_K is None else weights_K.to(device))


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
        config.method,
        towers,
        data.class_names,
        config.options,
        descriptions=data.descriptions,
        generator=generator,
        template=data.dataset.template,
    )
    _require_texts_fit(data, method)
    return Setup(config, runtime, device, data, towers, method, None)


def warn(setup: Setup, progress: Progress, sources: Mapping[str, str]) -> None:
    """Say what is doubtful in the data and in the schedule, and which settings do nothing in this run.

    Args:
        sources: dotted key -> where its value came from.
    """
    train, plan = setup.config.train, setup.plan
    for doubt in (*setup.data.dataset.warnings, *setup.data.split.doubts):
        progress.warn(doubt)
    if setup.config.descriptions is not None and setup.data.description_file is None:
        progress.warn(f"method {setup.config.method!r} reads no descriptions: --descriptions has no effect on it")
    if idle_templates := _template_doubt(setup.config):
        progress.warn(idle_templates)
    if plan is None:
        idle = [name for name in LOOP_ONLY if getattr(train, name) != TrainConfig.model_fields[name].default]
        if train.views == 1:
            idle.remove("views")  # what a method without a loop reads is one view of each image
        if idle:
            verb = "has" if len(idle) == 1 else "have"
            progress.warn(f"method {setup.config.method!r} has no training loop: {', '.join(idle)} {verb} no effect")
        if setup.runtime.tracker:
            progress.warn(f"method {setup.config.method!r} has no training loop: there is nothing to tell a tracker")
        return
    for doubt in (*doubts(train, plan, sources), *_imbalance(setup), *_unmeasured(setup)):
        progress.warn(doubt)


def _imbalance(setup: Setup) -> Iterator[str]:
    """What settings for classes of unequal size do that one would not expect."""
    train = setup.config.train
    asked = [f"{name} = balanced" for name in ("class_weights", "sampling") if getattr(train, name) == "balanced"]
    if asked and is_balanced(setup.train_labels):
        yield f"{' and '.join(asked)}: every class has as many training images as the others, so nothing is evened out"
    elif len(asked) == 2:
        yield f"{' and '.join(asked)}: small classes count twice more, by their weights and by their number"


def _unmeasured(setup: Setup) -> Iterator[str]:
    """Classes that validation says nothing of."""
    seen = {record.label for record in setup.data.split.val}
    missing = [repr(name) for label, name in enumerate(setup.data.class_names) if label not in seen]
    if setup.config.train.validate_every is not None and missing:
        yield f"{len(missing)} classes have no validation image, their accuracy is not measured: {shortened(missing)}"


def _template_doubt(config: RunConfig) -> str | None:
    """Why a run's own templates change nothing in it; None where they do, or where there are none."""
    if config.templates is None:
        return None
    option = template_option(config.method)
    if option is None:
        return (
            f"method {config.method!r} writes classes into no template: --templates has no effect on it, "
            "only on zero-shot rows beside it"
        )
    if as_tuple(config.options[option] or ()) != config.templates:
        return f"--templates has no effect: option {option} is given, too"
    return None


def make_batches(setup: Setup, progress: Progress) -> Batches:
    """The source of training batches, with features computed now if the run caches them."""
    config, records = setup.config, setup.data.split.train
    if setup.cached:
        cached = train_features(setup, config.train.views, progress)
        return FeatureBatches(
            cached, config.train.batch_size, seed=config.seed, device=setup.device, sampling=config.train.sampling
        )
    return ImageBatches(
        records,
        setup.backbone.transform(train=config.train.augment),
        config.train.batch_size,
        seed=config.seed,
        augment=config.train.augment,
        device=setup.device,
        workers=setup.runtime.workers,
        sampling=config.train.sampling,
    )


def train_features(setup: Setup, views: int, progress: Progress) -> CachedFeatures:
    """Features of the training images."""
    with setup.method.blamed(wide=True):
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


def _require_texts_fit(data: TrainSet, method: PromptMethod) -> None:
    """Also the texts of the classes that are left for evaluation: it would be a pity to learn of these when trained."""
    dataset = data.dataset
    require_texts_fit(written_for(method, dataset.template))
    if dataset.class_names != data.class_names and "new_classes" in method.capabilities:
        texts = dataset.descriptions if method.reads_descriptions(method.config) == "always" else None
        require_texts_fit(method.with_classes(dataset.class_names, template=dataset.template, descriptions=texts))

"""From a configuration to what a run is made of; training and the dry run start here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.features import CachedFeatures
from vlmprompt.backbones.load import load_backbone
from vlmprompt.config.keys import dumped_options
from vlmprompt.config.models import RunConfig, Runtime
from vlmprompt.config.templates import template_values
from vlmprompt.methods.build import build_method, method_config, template_option, written_for
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.texts import require_texts_fit
from vlmprompt.training.device import require_precision, resolve_device
from vlmprompt.training.require import (
    require_search,
    require_unlabelled,
    require_validation,
    require_views,
    require_weights,
)
from vlmprompt.training.schedule import Plan
from vlmprompt.training.slow_precision import warn_of_slow_bf16
from vlmprompt.training.trainset import TrainSet
from vlmprompt.training.views import Views
from vlmprompt.training.weights import class_weights

LOOPLESS = frozenset({"closed_form", "training_free"})


@dataclass(frozen=True)
class Setup:
    """The parts of a run.

    Attributes:
        plan: of the loop; None for methods without one.
        weights_K: of classes in the loss, see `class_weights`; None where all weigh the same.
        computed: features that were computed in this run and are kept, by what they are of.
    """

    config: RunConfig
    runtime: Runtime
    device: torch.device
    data: TrainSet
    backbone: Backbone
    method: PromptMethod
    plan: Plan | None
    weights_K: Tensor | None = None
    computed: dict[str, CachedFeatures] = field(default_factory=dict)

    @property
    def train_labels(self) -> list[int]:
        """Of the training images, in their order."""
        return [record.label for record in self.data.split.train]

    @property
    def cached(self) -> bool:
        """Whether training, apart from what is fitted before the loop, reads features computed once."""
        return "closed_form" in self.method.capabilities or self.recorded_views > 0

    @property
    def views(self) -> Views | None:
        """Of each training image in the loop; None for a method without one."""
        if self.plan is None:
            return None
        return Views.of(self.config.train, self.plan, self.method, len(self.data.split.train))

    @property
    def recorded_views(self) -> int:
        """Of each training image of which the loop reads features that are computed once; 0: it reads images."""
        return 0 if self.views is None else self.views.recorded

    @property
    def searches(self) -> bool:
        """Whether the method will choose something on validation images."""
        return bool(self.method.searched) and self.config.train.val_search

    @property
    def fit_views(self) -> int:
        """Views of each training image of which features are computed for `fit`; 0 where nothing is fitted."""
        return self.method.fit_views if {"closed_form", "fit_first"} & self.method.capabilities else 0

    @property
    def computed_rows(self) -> int:
        """Views of all training images together of which features are computed."""
        loop = self.recorded_views
        views = self.fit_views + (0 if loop == self.fit_views else loop)
        return len(self.data.split.train) * views + len(self.data.unlabelled) * loop

    @property
    def features(self) -> str:
        """How images reach the method, in words for run.json."""
        dtype = self.runtime.feature_dtype
        rounded = f", rounded to {dtype}" if dtype != "fp32" and (self.fit_views or self.cached) else ""
        return self._features + rounded

    @property
    def _features(self) -> str:
        views = self.recorded_views
        if "training_free" in self.method.capabilities:
            return "no training images"
        if "closed_form" in self.method.capabilities:
            return _views_in_words(self.fit_views)
        loop = "fresh augmentation every epoch" if self.config.train.augment else "the test transform, every epoch"
        if views:
            drawn = "one" if self.method.training_views == 1 else self.method.training_views
            loop = _views_in_words(views) + (f"; {drawn} drawn per epoch" if views > 1 else "")
        elif self.method.training_views > 1:
            loop += f", {self.method.training_views} views of each image"
        return f"{loop}; before the loop a fit on {_views_in_words(self.fit_views)}" if self.fit_views else loop


def _views_in_words(views: int) -> str:
    which = "one deterministic view" if views == 1 else f"{views} recorded random views"
    return f"features of {which} of each image, computed once"


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
    """The device, known to serve the run's precision; a warning where another one is faster.

    Raises:
        UsageError, InputError: see `resolve_device` and `require_precision`.
    """
    device = resolve_device(runtime.device)
    require_precision(device, config.train.precision)
    warn_of_slow_bf16(device, config.train.precision)
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
    require_search(config, method, data)
    require_weights(config, method)
    if "closed_form" in method.capabilities:
        return setup
    require_views(config, method)
    require_unlabelled(config, method, data)
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
    method.val_search = config.train.val_search
    _require_texts_fit(data, method)
    return Setup(config, runtime, device, data, towers, method, None)


def _require_texts_fit(data: TrainSet, method: PromptMethod) -> None:
    """Also the texts of the classes that are left for evaluation: it would be a pity to learn of these when trained."""
    dataset = data.dataset
    require_texts_fit(written_for(method, dataset.template))
    if dataset.class_names != data.class_names and "new_classes" in method.capabilities:
        with method.blamed():
            reads = method.reads_descriptions(method.config)
        texts = dataset.descriptions if reads == "always" else None
        require_texts_fit(method.with_classes(dataset.class_names, template=dataset.template, descriptions=texts))

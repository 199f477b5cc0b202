"""Every installed method on a miniature tower: whether it can be built and takes a step, before anybody needs it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.openclip.miniature import trial_backbone
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.errors import PluginError, VlmPromptError
from vlmprompt.methods.build import build_method, method_config
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.given import require_chosen, require_losses, require_record
from vlmprompt.methods.hooks import Hooks
from vlmprompt.methods.streaming import adapts, blank
from vlmprompt.methods.teachers import standing_in
from vlmprompt.registry import one_line

_NAMES = ("cat", "dog")
_PHRASES = (("a cat has whiskers",), ("a dog has a snout",))
_LOOPLESS = frozenset({"closed_form", "training_free"})


def try_methods(
    names: Iterable[str], done: Callable[[], None] = lambda: None
) -> tuple[dict[str, PluginError], dict[str, str]]:
    """Build methods with their default options for two classes, and put two images through each.

    Args:
        done: called after each.

    Returns:
        By name why a method failed, and why one could not be tried, such as for an option without a default.
    """
    failed: dict[str, PluginError] = {}
    untried: dict[str, str] = {}
    backbone = trial_backbone()
    for name in names:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _step(name, backbone)
        except PluginError as error:
            failed[name] = error
        except VlmPromptError as error:
            untried[name] = error.told
        except Exception as error:  # of the core's own methods, which are not blamed
            failed[name] = PluginError(f"method {name!r} failed: {one_line(error)}")
            failed[name].__cause__ = error
        done()
    return failed, untried


def _step(name: str, backbone: Backbone) -> None:
    """What a run would ask of a method, on two images, and evaluation, over other classes as well."""
    images = torch.zeros(len(_NAMES), 3, *backbone.preprocess.sides)
    with standing_in(backbone):  # a trial loads no weights of a teacher's
        method = build_method(name, backbone, _NAMES, descriptions=_PHRASES)
        with method.blamed():
            _learn(method, images)
    frozen = method.frozen()
    seen = frozen(blank(method, len(_NAMES)))
    if adapts(method) and not torch.equal(frozen.stream()(blank(method, len(_NAMES))).logits, seen.logits):
        raise PluginError(
            f"{method.told}: a second stream of the same images has other logits than the first",
            hint="start_stream must forget all; tell the author of the method",
        )
    if "new_classes" in method.capabilities:
        other = method.with_classes(_NAMES[1:], descriptions=_PHRASES[1:])
        other.frozen()(blank(other, len(_NAMES)))


def _learn(method: PromptMethod, images: Tensor) -> None:
    """What the method has of a fit, a step of the loop, and a search."""
    labels = torch.arange(len(_NAMES))
    method.train()
    if {"closed_form", "fit_first"} & method.capabilities:
        features = _features(method, labels)
        many = ImageFeatures.cat([features] * method.fit_views)
        require_record(method.told, "fit", method.fit(many, labels.repeat(method.fit_views), (features, labels)))
    if method.capabilities.isdisjoint(_LOOPLESS):
        method.start_epoch(0, 1)
        views = (images,) * method.training_views
        output = method.on_views(views)
        require_losses(method, method.loss(output, labels))
        if method.reads_unlabelled:
            require_losses(method, method.unlabelled_loss(method.on_views(views)))
    if method.searched:
        features = _features(method.eval(), labels)
        with torch.no_grad():
            found = method.search_on_val(features, labels)
        require_chosen(method.told, tuple(method.searched), found)
    if type(method).upgrade.__func__ is not Hooks.upgrade.__func__:  # type: ignore[attr-defined]
        _read_again(method)


def _read_again(method: PromptMethod) -> None:
    """What this version has written must be read by it, whatever it changes of older ones."""
    assert method.registration is not None
    name, version = method.registration.name, method.registration.version
    options, tensors = method.upgrade(method.config.model_dump(mode="json"), method.trainable_state(), version)
    method_config(name, options)
    method.load_trainable_state(tensors)


def _features(method: PromptMethod, labels: Tensor) -> ImageFeatures:
    """Of two pictures that differ, as a run computes them once."""
    sides = method.backbone.preprocess.sides
    images = torch.linspace(-1, 1, len(labels) * 3 * sides[0] * sides[1]).reshape(len(labels), 3, *sides)
    with torch.no_grad():
        found = method.backbone.encode_image(images, method.image_needs())
        extra = method.image_extra(images, labels if method.training else None)
    return ImageFeatures(found.global_Bd, found.local_BNc, extra)

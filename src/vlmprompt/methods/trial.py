"""Every installed method on a miniature tower: whether it can be built and takes a step, before anybody needs it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable

import torch

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.openclip.miniature import trial_backbone
from vlmprompt.errors import PluginError, VlmPromptError
from vlmprompt.methods.build import build_method
from vlmprompt.methods.given import require_losses
from vlmprompt.methods.streaming import adapts, blank
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
    """Forward as in training, where there is any, and as in evaluation, over other classes as well."""
    images = torch.zeros(len(_NAMES), 3, *backbone.preprocess.sides)
    method = build_method(name, backbone, _NAMES, descriptions=_PHRASES)
    if method.capabilities.isdisjoint(_LOOPLESS):
        method.train()
        with method.blamed():
            method.start_epoch(0, 1)
            output = method(images)
            require_losses(method.told, method.loss(output, torch.arange(len(_NAMES))))
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

"""That a method can do what it says of itself, and says what it does.

Shapes: B images, K classes, P prompts, N positions, d joint width.
"""

from __future__ import annotations

import json

import torch
from torch.nn import functional as F

from vlmprompt.conformance import material
from vlmprompt.conformance.check import BrokenRuleError, require, skip
from vlmprompt.conformance.methods.case import SAME, MethodCase, changed, distance, features_of, loops, without_text

DROP_CACHE = "drop feature_cache, or leave the image tower without prompts and gradients"


def cached_features_are_as_good(case: MethodCase) -> None:
    """`feature_cache` means it: features that were stored before training give the logits of the images."""
    fresh, method = case.build(), case.learned()
    if "feature_cache" not in method.capabilities:
        skip("its image tower is not frozen")
    require(not method.image_needs().grad, "image_needs() asks for gradients in spite of feature_cache", DROP_CACHE)
    require(len(method.visual_prompts()) == 0, "it has visual prompts in spite of feature_cache", DROP_CACHE)
    before = features_of(fresh.eval(), case.images, None)
    name = changed(before.tensors(), features_of(method.eval(), case.images, None).tensors())
    require(name is None, f"features {name!r} are others after training", DROP_CACHE)
    apart = distance(case.logits(method, before), case.logits(method), method)
    require(
        apart <= SAME,
        f"logits of stored features are {apart:.2g} of a cosine from those of the images",
        "read nothing of an image but ImageFeatures: what else is wanted of it goes into image_extra",
    )


def local_features_are_there(case: MethodCase) -> None:
    """`local` means it: patches beside classes are in the output; without it there are none."""
    method = case.learned()
    with torch.no_grad():
        local = method(case.images).local
    if "local" not in method.capabilities:
        require(local is None, "the output has local features, but local is not among the capabilities", "name it")
        return
    require(local is not None, "local is among the capabilities, but the output has none", "give MethodOutput local=")
    assert local is not None
    unit_BNd, classes = local.features_BNd, local.classes
    fits = unit_BNd.ndim == 3 and classes.ndim in (2, 3) and classes.shape[-2] == len(method.class_names)
    fits = fits and classes.shape[-1] == unit_BNd.shape[-1] and len(unit_BNd) == len(case.images)
    require(
        fits,
        f"local features {tuple(unit_BNd.shape)} do not fit classes {tuple(classes.shape)}",
        "give LocalView(features (B,N,d), classes (K,d) or (B,K,d))",
    )
    long = (unit_BNd.norm(dim=-1) - 1).abs().max().item()
    require(long <= 1e-3, "local features are not of unit length", "normalise them: vlmprompt.api.unit")


def text_depends_on_the_image(case: MethodCase) -> None:
    """`image_conditioned` means it: each image has text of its own; without it one text serves all images."""
    method = case.learned()
    if "image_conditioned" not in method.capabilities:
        if without_text(method):
            skip("it reads no text")
        text = method.frozen_text()
        assert text is not None
        require(
            text.features_PKd.ndim == 3,
            f"text features {tuple(text.features_PKd.shape)} depend on the image, though image_conditioned is not "
            "among the capabilities",
            "name image_conditioned",
        )
        return
    require(method.frozen_text() is None, "frozen_text() gives text though it depends on the image", "return None")
    with torch.no_grad():
        features = method.encode_images(case.images)
        text_BPKd = method.encode_text(features.global_Bd).features_PKd
    fits = text_BPKd.ndim == 4 and len(text_BPKd) == len(case.images)
    require(fits, f"text features are {tuple(text_BPKd.shape)}", "give (B,P,K,d): scope 'image' of TextPrompts")
    require(
        any(not torch.equal(text_BPKd[0], other) for other in text_BPKd),
        "all images have the same text, though image_conditioned is among the capabilities",
        "let text_prompts use global_Bd, or drop image_conditioned",
    )


def has_something_to_learn(case: MethodCase) -> None:
    """`training_free` means it: there is nothing to train; without it there is."""
    method = case.build()
    own = [name for name, parameter in method.named_parameters() if parameter.requires_grad]
    if "training_free" in method.capabilities:
        require(
            not own,
            f"training_free is among the capabilities, but {', '.join(own)} would be trained",
            "drop training_free, or make them non-persistent buffers",
        )
    elif loops(method) and "fit_first" not in method.capabilities:
        require(bool(own), "there is nothing to train", "name training_free or closed_form, or create parameters")


def closed_form_fits(case: MethodCase) -> None:
    """`closed_form` means it: `fit` learns from features, and says of itself what JSON can hold."""
    method = case.build()
    if "closed_form" not in method.capabilities:
        skip("it is not fitted in closed form")
    before = case.logits(method)
    with method.blamed():
        told = case.fit(method)
    try:
        json.dumps(dict(told), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BrokenRuleError(
            f"what fit returns is not for run.json: {error}", "return plain numbers and texts by name"
        ) from error
    found = case.logits(method)
    require(not torch.equal(found, before), "fit changed nothing", "set what is learned in fit")
    loss, loss_before = (float(F.cross_entropy(logits, material.LABELS_B)) for logits in (found, before))
    require(
        loss < loss_before,
        f"fit makes nothing of the images' labels: their cross-entropy is {loss:.4g}, {loss_before:.4g} before",
        "use the labels that fit is given",
    )

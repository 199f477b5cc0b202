"""What `fit` is given is looked at before it is used.

Shapes: N images, V views.
"""

from __future__ import annotations

from torch import Tensor

from vlmprompt.api import ImageFeatures, InputError, PromptMethod


def require_labelled(method: PromptMethod, features: ImageFeatures, labels: Tensor, what: str = "training") -> None:
    """Refuse labels that do not fit the features or the classes.

    Raises:
        InputError: there are none, not one for each row, or one that is no class; or the features are a bare tensor.
    """
    if not isinstance(features, ImageFeatures):
        raise InputError(
            f"{method.told} is given {what} features that are a {type(features).__name__}",
            hint="give what backbone.encode_image gives, or ImageFeatures(global_Bd)",
        )
    rows, n_classes = len(features), len(method.class_names)
    if labels.shape != (rows,):
        raise InputError(
            f"{method.told} is given {what} features of {rows} rows and labels of shape {tuple(labels.shape)}",
            hint=f"give one label for each row, of shape ({rows},)",
        )
    if not rows:
        raise InputError(f"{method.told} is given no {what} images")
    if labels.is_floating_point():
        raise InputError(f"{method.told} is given {what} labels that are {labels.dtype}", hint="give them as int64")
    outside = labels[(labels < 0) | (labels >= n_classes)]
    if len(outside):
        raise InputError(
            f"{method.told} is given the {what} label {int(outside[0])}, and has {n_classes} classes",
            hint=f"labels are places in its class names, 0 to {n_classes - 1}",
        )


def require_views(method: PromptMethod, labels: Tensor, views: int) -> None:
    """Refuse rows that are not V views of N images, view after view.

    Raises:
        InputError: their number is no multiple of V, or the labels do not come again in every view.
    """
    rows = len(labels)
    reason = f"{rows} is no multiple of {views}" if rows % views else ""
    if not reason and not bool((labels.unflatten(0, (views, -1)) == labels[: rows // views]).all()):
        reason = "their labels do not come again in every view"
    if reason:
        raise InputError(
            f"{method.told} is given {rows} training rows for views = {views}, and {reason}",
            hint="give view after view, each with all images in one order, or set the option views to their number",
        )


def require_every_class(method: PromptMethod, labels: Tensor) -> None:
    """Refuse classes without a training image, for formulas with a mean over each class's images.

    Raises:
        InputError: names the first of them.
    """
    counts_K = labels.bincount(minlength=len(method.class_names))
    missing = (counts_K == 0).nonzero().flatten().tolist()
    if missing:
        raise InputError(
            f"{method.told} has no training image of class {method.class_names[missing[0]]!r}, over whose images it "
            "takes a mean",
            hint="give every class at least one, or leave the class out",
        )


def to_search_on(method: PromptMethod, val: tuple[ImageFeatures, Tensor] | None) -> tuple[ImageFeatures, Tensor] | None:
    """The validation images on which `fit` chooses what `searched` names; None where it chooses nothing.

    Raises:
        InputError: it is to choose, nobody has switched that off, and there are none, or their labels do not fit.
    """
    if not method.searched or not method.val_search:
        return None
    if val is None:
        raise InputError(
            f"{method.told} is to choose {' and '.join(method.searched)} on validation images (search = val), and is "
            "given none",
            hint="give some as val, or set the option search to none",
        )
    require_labelled(method, *val, "validation")
    return val

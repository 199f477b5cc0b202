"""Settings that a run cannot have with its method or its data: refused by name, before anything is trained."""

from __future__ import annotations

from vlmprompt.config.models import RunConfig
from vlmprompt.errors import InputError, UsageError
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.training.trainset import TrainSet
from vlmprompt.training.views import why_not
from vlmprompt.training.weights import takes_weights


def require_views(config: RunConfig, method: PromptMethod) -> None:
    """Refuse `views` with a method that cannot use them, and one kind of view where a method takes several.

    Raises:
        UsageError: names the reason.
    """
    several, train = method.training_views, config.train
    views = 0 if train.views == "auto" else train.views
    if several > 1 and (views < several if views else not train.augment):
        given = f"views = {views}" if views else "augment = false"
        raise UsageError(
            f"{given} cannot be used with method {config.method!r}: it takes {several} different views of each image",
            hint=f"--views {several} or more; 0 augments images anew each epoch",
        )
    if not views:
        return
    if reason := why_not(method):
        raise UsageError(
            f"views = {views} cannot be used with method {config.method!r}: {reason}",
            hint="leave --views out",
        )


def require_weights(config: RunConfig, method: PromptMethod) -> None:
    """Refuse `class_weights` with a method whose loss or fit does not take any.

    Raises:
        UsageError: names the reason.
    """
    if config.train.class_weights is None:
        return
    reason = None
    if "closed_form" in method.capabilities:
        reason = "it is fitted in closed form, all images alike"
    elif not takes_weights(method):
        reason = "its loss has no parameter 'weights'"
    if reason:
        raise UsageError(
            f"class_weights cannot be used with method {config.method!r}: {reason}",
            hint="leave --class-weights out"
            if "closed_form" in method.capabilities
            else "use --sampling balanced, which works with any loss, or ask the plugin's author",
        )


def require_search(config: RunConfig, method: PromptMethod, data: TrainSet) -> None:
    """Refuse to choose on validation images where there are none.

    Raises:
        InputError: names what would be chosen.
    """
    if method.searched and config.train.val_search and not data.split.val:
        raise InputError(
            f"method {config.method!r} chooses {', '.join(method.searched)} on validation images, and this run of "
            f"{data.dataset.spec} has none ({data.val_source.removeprefix('none: ')})",
            hint="add a val split, take fewer --shots so that train images are left, or keep the method's own values: "
            "--no-val-search",
        )


def require_unlabelled(config: RunConfig, method: PromptMethod, data: TrainSet) -> None:
    """Refuse to train on images without labels where there are none.

    Raises:
        InputError: names the data set.
    """
    if method.reads_unlabelled and not data.unlabelled:
        raise InputError(
            f"method {config.method!r} also trains on images without labels, and {data.dataset.spec} has none: each "
            "training image is one of the shots or of the validation images",
            hint="take fewer --shots, or --shots all, which reads all training images without their labels once more",
        )


def require_validation(config: RunConfig, method: PromptMethod, data: TrainSet) -> None:
    """Refuse to measure validation images where there are none, and to keep a state that the method does not have.

    Raises:
        InputError: there are none.
        UsageError: the method has no state before its end that could be kept.
    """
    train = config.train
    if train.validate_every is None:
        return
    if not data.split.val:
        raise InputError(
            f"validate_every = {train.validate_every} needs validation images, and this run of {data.dataset.spec} has "
            f"none ({data.val_source.removeprefix('none: ')})",
            hint="add a val split, take fewer --shots so that train images are left, or leave --validate-every out",
        )
    if method.made_at_end and (train.keep == "best" or train.patience is not None):
        asked = "keep = best" if train.keep == "best" else f"patience = {train.patience}"
        raise UsageError(
            f"{asked} cannot be used with method {config.method!r}: what it learns is only made after the last epoch",
            hint="leave it out; --validate-every alone shows how the accuracy goes",
        )

"""What is doubtful in a run before it begins, and which settings do nothing in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vlmprompt.config.models import RunConfig, TrainConfig
from vlmprompt.config.templates import as_tuple
from vlmprompt.data.splits import shortened
from vlmprompt.methods.build import template_option
from vlmprompt.progress import Progress
from vlmprompt.training.outlook import doubts
from vlmprompt.training.setup import Setup
from vlmprompt.training.weights import is_balanced

# Settings of the loop that nobody sets for other reasons; a method without one says which it was given in vain.
LOOP_ONLY = ("views", "max_steps", "class_weights", "sampling", "validate_every", "keep", "patience")


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
    for doubt in _search_doubts(setup):
        progress.warn(doubt)
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


def _search_doubts(setup: Setup) -> Iterator[str]:
    """What withholding the validation images does not do."""
    train = setup.config.train
    if train.val_search:
        return
    if not setup.method.searched and not setup.fit_views:
        yield f"method {setup.config.method!r} chooses nothing on validation images: --no-val-search has no effect"
    if setup.plan is not None and (train.keep == "best" or train.patience is not None):
        asked = "keep = best" if train.keep == "best" else f"patience = {train.patience}"
        yield (
            f"{asked} still uses the validation images, to choose when training ends: --no-val-search is about what "
            "the method itself chooses"
        )


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

"""What a plan comes to, in words: for the dry run, and warnings before a run that would learn little."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from vlmprompt.config.layers import is_implied
from vlmprompt.config.models import TrainConfig
from vlmprompt.training.schedule import Plan, last_rate

MOST_WARMUP = 0.1  # of the steps; CoCoOp's ten epochs are the published schedule with most but one
MOST_LAST_RATE = 0.2  # of the peak
# What a schedule hangs on. Where none was given explicitly it is the published one, which needs no comment.
PACE = (
    "epochs",
    "max_steps",
    "batch_size",
    "warmup_epochs",
    "schedule",
    "schedule_unit",
    "min_lr",
    "milestones",
    "gamma",
)


def warmup_steps(train: TrainConfig, plan: Plan) -> int:
    """Steps at the warm-up rate."""
    return min(train.warmup_epochs * plan.steps_per_epoch, plan.steps)


def in_words(train: TrainConfig, plan: Plan) -> dict[str, str]:
    """Steps and epochs (`plan`), rates (`rate`), and what is measured on the way (`val`)."""
    steps = f"{_count(plan.steps, 'step')}: {_epochs(plan)}, {_count(train.batch_size, 'image')} a step"
    words = {"plan": "; ".join([steps, *([short] if (short := unreached(train, plan)) else [])])}
    words["rate"] = _rates(train, plan)
    if train.validate_every is not None:
        times = _measurements(train, plan)
        stop = "" if train.patience is None else f", ended by {train.patience} in a row that are no better"
        words["val"] = f"{_count(times, 'measurement')}{stop}; the {train.keep} state is kept"
    return words


def unreached(train: TrainConfig, plan: Plan) -> str | None:
    """Why there are fewer steps than `max_steps`; None where there are not."""
    if train.max_steps is None or plan.steps >= train.max_steps:
        return None
    needed = math.ceil(train.max_steps / plan.steps_per_epoch)
    there = f"{_epochs(plan)} ({plan.steps} in all)"
    return f"max_steps = {train.max_steps} is not reached in {there}; --epochs {needed} would reach it"


def doubts(train: TrainConfig, plan: Plan, sources: Mapping[str, str]) -> Iterator[str]:
    """What is doubtful in how a run is paced, unless nothing of it was given explicitly.

    Args:
        sources: dotted key -> where its value came from; what is not named counts as given.
    """
    if train.schedule != "step" and (train.milestones or train.gamma != TrainConfig.model_fields["gamma"].default):
        yield f"milestones and gamma have no effect with schedule = {train.schedule}"
    idle = [
        name for name in ("schedule_unit", "min_lr") if getattr(train, name) != TrainConfig.model_fields[name].default
    ]
    if idle and train.schedule not in ("cosine", "linear"):
        yield f"{' and '.join(idle)} has no effect with schedule = {train.schedule}, only with cosine and linear"
    if train.eps is not None and train.optimizer == "sgd":
        yield "eps has no effect with optimizer = sgd, only with adam and adamw"
    if train.patience is not None and (times := _measurements(train, plan)) <= train.patience + 1:
        yield f"patience = {train.patience} has no effect: the run has {_count(times, 'measurement')} in all"
    if not any(_is_given(name, sources) for name in PACE):
        return
    if (short := unreached(train, plan)) and _is_given("max_steps", sources):
        yield short
    late = [milestone for milestone in train.milestones if milestone >= plan.epochs]
    if late and train.schedule == "step":
        yield f"the rate does not fall at milestones {late}: the run has {_count(plan.epochs, 'epoch')}"
    yield from _slow(train, plan)


def _measurements(train: TrainConfig, plan: Plan) -> int:
    """Of the validation images, over the whole plan."""
    return sum(plan.measures_after(epoch, train.validate_every) for epoch in range(plan.epochs))


def _slow(train: TrainConfig, plan: Plan) -> Iterator[str]:
    """Whether steps are taken at rates too low to learn, or end at one too high to settle."""
    warm = warmup_steps(train, plan)
    if warm == plan.steps:
        yield (
            f"the whole run ({plan.epochs} of {_count(train.warmup_epochs, 'epoch')} of warm-up) is at the rate "
            f"{train.warmup_lr:g}, lr = {train.lr:g} is never reached; lower warmup_epochs or train longer"
        )
        return
    if warm > MOST_WARMUP * plan.steps:
        yield (
            f"warm-up takes {warm} of {plan.steps} steps ({warm / plan.steps:.0%}), at the rate {train.warmup_lr:g}; "
            "lower it (--set warmup_epochs=0) or train longer (--epochs)"
        )
    last = last_rate(train, plan)
    by_epoch = train.schedule in ("cosine", "linear") and train.schedule_unit == "epoch"
    if by_epoch and last - train.min_lr > MOST_LAST_RATE * train.lr:
        yield (
            f"the run ends at the rate {last:.3g}, {last / train.lr:.0%} of the peak: the rate changes once an epoch, "
            f"and there are {plan.epochs}; train for more epochs (--epochs), or lower warmup_epochs"
        )


def _rates(train: TrainConfig, plan: Plan) -> str:
    """The rates of a run, such as `1e-05 for 1 epoch (4 steps, 4 %), then cosine from 0.002 to 1.97e-06`."""
    warm, last = warmup_steps(train, plan), last_rate(train, plan)
    parts = []
    if warm:
        n = min(train.warmup_epochs, plan.epochs)
        parts.append(
            f"{train.warmup_lr:g} for {_count(n, 'epoch')} of warm-up ({_count(warm, 'step')}, {warm / plan.steps:.0%})"
        )
    if warm < plan.steps:
        constant = train.schedule == "constant"
        fall = f"{train.schedule} from {train.lr:g} to {last:.3g}"
        stepwise = ", set anew each step" if train.schedule_unit == "step" else ""
        parts.append(f"{train.lr:g}, constant" if constant else fall + stepwise)
    return ", then ".join(parts)


def _epochs(plan: Plan) -> str:
    return f"{_count(plan.epochs, 'epoch')} of {_count(plan.steps_per_epoch, 'step')}"


def _count(number: int, what: str) -> str:
    """ "1 step", "2 steps"."""
    return f"{number} {what}{'s' * (number != 1)}"


def _is_given(name: str, sources: Mapping[str, str]) -> bool:
    source = sources.get(f"train.{name}")
    return source is None or not is_implied(source)

"""Steps and learning rates, against hand calculations and torch's own schedulers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, LRScheduler, MultiStepLR

from vlmprompt.config.models import TrainConfig
from vlmprompt.errors import InputError, UsageError
from vlmprompt.training.schedule import Plan, last_rate, learning_rate, step_rate

TORCHS: dict[str, Callable[[torch.optim.Optimizer, int], LRScheduler]] = {
    "cosine": lambda optimizer, epochs: CosineAnnealingLR(optimizer, T_max=epochs),
    "linear": lambda optimizer, epochs: LinearLR(optimizer, 1.0, 0.0, total_iters=epochs),
    "step": lambda optimizer, epochs: MultiStepLR(optimizer, milestones=[1, 4, 30], gamma=0.3),
    "constant": lambda optimizer, epochs: LambdaLR(optimizer, lambda epoch: 1.0),
}


@pytest.mark.parametrize("schedule", TORCHS)
@pytest.mark.parametrize("epochs", [1, 2, 7, 50])
def test_without_warmup_it_is_torchs(schedule: Any, epochs: int) -> None:
    train = TrainConfig(lr=0.002, epochs=epochs, warmup_epochs=0, schedule=schedule, milestones=(1, 4, 30), gamma=0.3)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.002)
    theirs = TORCHS[schedule](optimizer, epochs)
    for epoch in range(epochs):
        assert learning_rate(train, epochs, epoch) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize(("min_lr", "max_steps"), [(0.0, None), (1e-4, None), (1e-4, 7)])
def test_step_by_step_it_is_torchs_cosine(min_lr: float, max_steps: int | None) -> None:
    train = TrainConfig(
        lr=0.003, epochs=4, batch_size=4, warmup_epochs=0, schedule_unit="step", min_lr=min_lr, max_steps=max_steps
    )
    plan = Plan.of(train, 13)  # 3 steps an epoch
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.003)
    theirs = CosineAnnealingLR(optimizer, T_max=plan.steps, eta_min=min_lr)
    for epoch in range(plan.epochs):
        for step in range(plan.steps_in(epoch)):
            rate = step_rate(train, plan, epoch, step)
            assert rate == pytest.approx(theirs.get_last_lr()[0], rel=1e-12)
            optimizer.step()
            theirs.step()
    assert last_rate(train, plan) == rate > min_lr


def test_a_floor_and_a_warmup_by_hand() -> None:
    # m + (lr - m) * share: 1 and 1/2 of a cosine over 2 epochs; after 2 steps of warm-up 1 and 3/4 of a line over 4.
    cosine = TrainConfig(lr=0.5, min_lr=0.1, epochs=2, warmup_epochs=0)
    assert [learning_rate(cosine, 2, epoch) for epoch in range(2)] == pytest.approx([0.5, 0.3])
    line = TrainConfig(
        lr=0.5, min_lr=0.1, epochs=2, batch_size=4, warmup_epochs=1, schedule="linear", schedule_unit="step"
    )
    plan = Plan.of(line, 8)
    rates = [step_rate(line, plan, epoch, step) for epoch in range(2) for step in range(2)]
    assert rates == pytest.approx([1e-5, 1e-5, 0.5, 0.4])


def test_with_one_warmup_epoch_by_hand() -> None:
    # E = 4: the warm-up rate, then cos of 0, pi/4, pi/2: 1, 0.70710678, 0.
    train = TrainConfig(lr=0.002, epochs=4, warmup_epochs=1, warmup_lr=1e-5)
    expected = [1e-5, 0.002, 0.001 * 1.7071067811865476, 0.001]
    assert [learning_rate(train, 4, e) for e in range(4)] == pytest.approx(expected, rel=1e-12)


def test_with_two_warmup_epochs_and_constant() -> None:
    cosine = TrainConfig(lr=0.002, warmup_epochs=2, warmup_lr=1e-5)
    assert [learning_rate(cosine, 4, e) for e in range(4)] == pytest.approx([1e-5, 1e-5, 0.002, 0.0017071067811865])
    constant = TrainConfig(lr=0.1, warmup_epochs=1, schedule="constant")
    assert [learning_rate(constant, 3, e) for e in range(3)] == [1e-5, 0.1, 0.1]


def test_linear_and_step_after_warmup() -> None:
    # E = 4, w = 1: lr * (1 - (e - 1) / 4); milestones count from the run's start, warm-up included.
    linear = TrainConfig(lr=0.4, schedule="linear", warmup_epochs=1)
    assert [learning_rate(linear, 4, e) for e in range(4)] == pytest.approx([1e-5, 0.4, 0.3, 0.2])
    step = TrainConfig(lr=0.4, schedule="step", milestones=(1, 3), gamma=0.5, warmup_epochs=1)
    assert [learning_rate(step, 4, e) for e in range(4)] == pytest.approx([1e-5, 0.2, 0.2, 0.1])


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_max_steps_anneals_over_the_epochs_that_are_run(schedule: Any) -> None:
    short = TrainConfig(epochs=50, max_steps=10, batch_size=4, schedule=schedule, warmup_epochs=0)
    plan = Plan.of(short, 8)  # 2 steps an epoch
    whole = short.model_copy(update={"epochs": 5, "max_steps": None})
    rates = [learning_rate(short, plan.epochs, epoch) for epoch in range(plan.epochs)]
    assert rates == [learning_rate(whole, 5, epoch) for epoch in range(5)]
    assert rates[-1] <= 0.2 * short.lr * 1.0000001


def test_measured_every_so_many_epochs_and_after_the_last() -> None:
    plan = Plan.of(TrainConfig(epochs=5), 32)
    assert [plan.measures_after(epoch, 2) for epoch in range(5)] == [False, True, False, True, True]
    assert [plan.measures_after(epoch, 9) for epoch in range(5)] == [False] * 4 + [True]
    assert not any(plan.measures_after(epoch, None) for epoch in range(5))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"patience": 3}, r"patience = 3 needs .* give validate_every"),
        ({"keep": "best"}, r"keep = best needs .* give validate_every"),
        ({"schedule": "step"}, "needs milestones"),
        ({"schedule": "step", "milestones": (4, 4)}, "must rise"),
        ({"milestones": (0,)}, "greater than or equal to 1"),
        ({"min_lr": 0.01, "lr": 0.002}, "min_lr = 0.01 is higher than lr = 0.002"),
        ({"gamma": 1.0}, "less than 1"),
        ({"gamma": 0.0}, "greater than 0"),
        ({"validate_every": 0}, "greater than or equal to 1"),
        ({"validate_every": 1, "patience": 0}, "greater than or equal to 1"),
        ({"class_weights": {"cat": 0.0}}, "greater than 0"),
        ({"class_weights": {}}, "at least 1 item"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_together(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TrainConfig(**values)


@pytest.mark.parametrize(
    ("n", "batch", "epochs", "max_steps", "plan"),
    [
        (10, 4, 3, None, (3, 2, 6)),  # the incomplete third batch is left out
        (8, 4, 3, None, (3, 2, 6)),
        (3, 4, 3, None, (3, 1, 3)),  # unless it is the only one
        (10, 4, 3, 5, (3, 2, 5)),  # 5 steps need 3 epochs, the last of one step
        (10, 4, 50, 4, (2, 2, 4)),
        (10, 4, 50, 1, (1, 2, 1)),
        (10, 4, 3, 100, (3, 2, 6)),  # a cap, no more
    ],
)
def test_plan(n: int, batch: int, epochs: int, max_steps: int | None, plan: tuple[int, int, int]) -> None:
    made = Plan.of(TrainConfig(batch_size=batch, epochs=epochs, max_steps=max_steps), n)
    assert (made.epochs, made.steps_per_epoch, made.steps) == plan
    assert sum(made.steps_in(e) for e in range(made.epochs)) == made.steps
    assert min(made.steps_in(e) for e in range(made.epochs)) >= 1


def test_no_steps_is_an_error() -> None:
    with pytest.raises(UsageError, match="max_steps is 0"):
        Plan.of(TrainConfig(max_steps=0), 10)
    with pytest.raises(InputError, match="no training images"):
        Plan.of(TrainConfig(), 0)

"""Steps and learning rates, against hand calculations and torch's own cosine."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from vlmprompt.config.models import TrainConfig
from vlmprompt.errors import InputError, UsageError
from vlmprompt.training.schedule import Plan, learning_rate


@pytest.mark.parametrize("epochs", [1, 2, 7, 50])
def test_without_warmup_it_is_torchs_cosine(epochs: int) -> None:
    train = TrainConfig(lr=0.002, epochs=epochs, warmup_epochs=0)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.002)
    theirs = CosineAnnealingLR(optimizer, T_max=epochs)
    for epoch in range(epochs):
        assert learning_rate(train, epochs, epoch) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        theirs.step()


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

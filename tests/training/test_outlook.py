"""What is said of a plan before the run, by hand, and when nothing is said."""

from __future__ import annotations

from typing import Any

import pytest

from vlmprompt.config.models import TrainConfig
from vlmprompt.training.outlook import doubts, in_words
from vlmprompt.training.schedule import Plan

SHIPPED = {f"train.{name}": "override x:y.toml" for name in TrainConfig.model_fields}


def said(n_images: int = 16, sources: dict[str, str] | None = None, **values: Any) -> list[str]:
    train = TrainConfig(**{"batch_size": 4, **values})
    return list(doubts(train, Plan.of(train, n_images), sources or {}))


def test_max_steps_that_the_epochs_do_not_have() -> None:
    asked = {"epochs": 25, "max_steps": 400}
    (text,) = said(**asked)
    assert "max_steps = 400 is not reached in 25 epochs of 4 steps (100 in all); --epochs 100 would reach it" in text
    plan = Plan.of(TrainConfig(batch_size=4, epochs=100, max_steps=400), 16)
    assert plan.steps == 400
    assert said(epochs=25, max_steps=100) == []
    assert said(sources=SHIPPED, **asked) == []
    (again,) = said(sources=SHIPPED | {"train.max_steps": "--max-steps"}, **asked)
    assert again == text
    # A cap that is shipped is none that somebody waits for.
    assert said(sources=SHIPPED | {"train.epochs": "--epochs"}, **asked) == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epochs": 9}, "warm-up takes 4 of 36 steps (11%), at the rate 1e-05"),
        ({"epochs": 100, "max_steps": 30}, "warm-up takes 4 of 30 steps (13%)"),
        ({"epochs": 40, "warmup_epochs": 5, "schedule": "constant"}, "warm-up takes 20 of 160 steps (12%)"),
        # (1 + cos(pi 4/6)) / 2 = 0.25
        ({"epochs": 6, "warmup_epochs": 2, "schedule": "cosine"}, "ends at the rate 0.001, 50% of the peak"),
        ({"epochs": 4, "warmup_epochs": 0, "schedule": "linear"}, "ends at the rate 0.0005, 25% of the peak"),
        ({"epochs": 3, "warmup_epochs": 3}, "the whole run (3 of 3 epochs of warm-up)"),
        ({"epochs": 10, "schedule": "step", "milestones": (5, 10)}, "does not fall at milestones [10]"),
        ({"epochs": 10, "milestones": (5,)}, "milestones and gamma have no effect with schedule = cosine"),
        ({"epochs": 20, "validate_every": 10, "patience": 1}, "patience = 1 has no effect: the run has 2 measurements"),
        ({"epochs": 10, "gamma": 0.5}, "milestones and gamma have no effect"),
    ],
    ids=str,
)
def test_slow_and_idle(values: dict[str, Any], words: str) -> None:
    assert any(words in text for text in said(**values)), said(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 10},  # CoCoOp's: a tenth is warm-up, the last rate is (1 + cos(0.8 pi)) / 2 = 0.095 of the peak
        {"epochs": 10, "schedule": "linear"},  # 2 / 10
        {"epochs": 20, "schedule": "constant"},
        {"epochs": 20, "schedule": "step", "milestones": (19,)},
        {"epochs": 30, "validate_every": 10, "patience": 1},
    ],
    ids=str,
)
def test_nothing_is_doubtful(values: dict[str, Any]) -> None:
    assert said(**values) == []


def test_published_schedules_are_not_commented_on() -> None:
    assert said(epochs=5, sources=SHIPPED) == []  # MaPLe's
    assert len(said(epochs=5, sources=SHIPPED | {"train.epochs": "--set"})) == 2


def test_in_words() -> None:
    train = TrainConfig(epochs=25, max_steps=400, batch_size=4, validate_every=10, keep="best", patience=2)
    words = in_words(train, Plan.of(train, 16))
    assert words["plan"].startswith(
        "100 steps: 25 epochs of 4 steps, 4 images a step; max_steps = 400 is not reached in"
    )
    assert words["rate"] == "1e-05 for 1 epoch of warm-up (4 steps, 4%), then cosine from 0.002 to 3.14e-05"
    assert words["val"] == ("3 measurements, ended by 2 in a row that are no better; the best state is kept")
    constant = TrainConfig(epochs=2, schedule="constant", warmup_epochs=0, batch_size=4)
    assert in_words(constant, Plan.of(constant, 16)) == {
        "plan": "8 steps: 2 epochs of 4 steps, 4 images a step",
        "rate": "0.002, constant",
    }


def test_one_of_a_thing_is_told_as_one() -> None:
    train = TrainConfig(batch_size=1, epochs=1, max_steps=3)
    assert in_words(train, Plan.of(train, 1))["plan"] == (
        "1 step: 1 epoch of 1 step, 1 image a step; max_steps = 3 is not reached in 1 epoch of 1 step (1 in all); "
        "--epochs 3 would reach it"
    )

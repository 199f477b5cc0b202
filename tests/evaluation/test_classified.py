"""What is said of each image, and the metrics beside accuracies, against slow loops and earlier code."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.evaluation.material import patches
from tests.evaluation.test_metrics import random_case
from vlmprompt.errors import InputError
from vlmprompt.evaluation import classified as classified_module
from vlmprompt.evaluation.classified import CALIBRATION, TOP1, classified, top1_measurement
from vlmprompt.evaluation.images import Predictions
from vlmprompt.evaluation.metrics import ece
from vlmprompt.results import calibration
from vlmprompt.results.details import Details


def said(logits: list[list[float]], labels: list[int]) -> Details:
    """Of patches with as many classes, one image a row."""
    data = patches(len(logits[0]), len(logits), [])
    records = data.splits["test"][: len(logits)]
    return classified(
        Predictions(torch.tensor(logits), torch.tensor(labels)),
        type(data)(data.name, data.spec, data.class_names, {"test": records}),
    )


def test_each_image_by_hand() -> None:
    """Odds 1:2:5 of three classes, with another class right each time; then equal logits."""
    odds = [[math.log(v) for v in (1.0, 2.0, 5.0)]] * 3
    details = said([*odds, [0.0, 0.0, 0.0]], [2, 1, 0, 1])
    assert details.prediction.tolist() == [2, 2, 2, 1]  # among equals the right class
    assert details.correct.tolist() == [True, False, False, True]
    assert details.confidence.tolist() == pytest.approx([5 / 8] * 3 + [1 / 3])
    assert details.true_probability.tolist() == pytest.approx([5 / 8, 2 / 8, 1 / 8, 1 / 3])
    assert details.square_sum.tolist() == pytest.approx([30 / 64] * 3 + [1 / 3])
    assert details.runner_up.tolist() == [1, 1, 1, 0]
    assert details.runner_up_probability.tolist() == pytest.approx([2 / 8] * 3 + [1 / 3])
    assert details.ids == ("0/0", "0/1", "0/2", "0/3") and details.dataset == "made-up:patches"


def test_the_runner_up_is_the_right_class_among_equals() -> None:
    assert said([[3.0, 1.0, 1.0, 1.0]], [2]).runner_up.tolist() == [2]


def test_with_one_class_there_is_no_runner_up() -> None:
    details = said([[3.0], [-1.0]], [0, 0])
    assert (details.runner_up.tolist(), details.runner_up_probability.tolist()) == ([-1, -1], [0.0, 0.0])
    assert details.confidence.tolist() == [1.0, 1.0] and details.correct.all()


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = random_case(5, n=60)
    data = patches(7, 9, [])
    whole = type(data)(data.name, data.spec, data.class_names, {"test": data.splits["test"][:60]})
    at_once = classified(Predictions(logits, labels), whole).bytes()
    monkeypatch.setattr(classified_module, "ROWS", 7)
    assert classified(Predictions(logits, labels), whole).bytes() == at_once


def earlier_ece(logits_BK: Tensor, labels_B: Tensor, bins: int) -> float:
    """As it was computed before images were kept: in torch alone."""
    confidence_B = logits_BK.double().softmax(dim=1).amax(dim=1)
    right_B = (logits_BK.gather(1, labels_B[:, None])[:, 0] >= logits_BK.amax(dim=1)).double()
    bin_B = (confidence_B * bins).ceil().long().clamp(1, bins) - 1
    gaps = torch.zeros(bins, dtype=torch.double).index_add_(0, bin_B, right_B - confidence_B)
    return float(gaps.abs().sum() / len(labels_B))


@given(seed=st.integers(0, 10_000), n=st.integers(1, 63))
def test_metrics_are_those_of_their_own_modules(seed: int, n: int) -> None:
    logits, labels = random_case(seed, n=n)
    data = patches(7, 9, [])
    part = type(data)(data.name, data.spec, data.class_names, {"test": data.splits["test"][:n]})
    measured = top1_measurement(Predictions(logits, labels), part, note="why")
    values: dict[str, Any] = {value.metric: value.value for value in measured.values}
    assert tuple(values) == TOP1 == ("top1", *CALIBRATION)
    assert {(v.n, v.note) for v in measured.values} == {(n, "why")}
    assert [v.higher_is_better for v in measured.values] == [True, *[False] * len(CALIBRATION)]
    assert values["ece_15"] == ece(logits, labels) == earlier_ece(logits, labels, 15)  # to the bit
    p = logits.double().softmax(dim=1)
    own = p[torch.arange(n), labels]
    hits = torch.nn.functional.one_hot(labels, 7)
    assert values["nll"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits.double(), labels)))
    assert values["brier"] == pytest.approx(float((p - hits).square().sum(dim=1).mean()))
    right = (own >= p.amax(dim=1)).numpy()
    assert values["top1"] == pytest.approx(right.mean())
    assert values["aurc"] == pytest.approx(calibration.aurc(p.amax(dim=1).numpy(), right))
    assert values["ece_adaptive_15"] == pytest.approx(calibration.ece(p.amax(dim=1).numpy(), right, adaptive=True))


def test_nothing_is_said_of_logits_that_are_not_finite() -> None:
    with pytest.raises(InputError, match="not finite"):
        said([[math.nan, 1.0]], [0])

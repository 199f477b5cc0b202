"""Metrics against hand calculations and scikit-learn."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score
from torch import Tensor

from vlmprompt.errors import InputError
from vlmprompt.evaluation.metrics import ece, mean_per_class, top1, top_k


def random_case(seed: int, *, n: int = 60, k: int = 7) -> tuple[Tensor, Tensor]:
    """Logits that are right about half of the time; not every class need have images."""
    generator = torch.Generator().manual_seed(seed)
    labels_B = torch.randint(k, (n,), generator=generator)
    logits_BK = torch.randn(n, k, generator=generator)
    logits_BK[torch.arange(n), labels_B] += 1.0
    return logits_BK, labels_B


def test_by_hand() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 2.0, 1.0], [5.0, 4.0, 3.0], [0.0, 0.0, 1.0]])
    labels = torch.tensor([0, 2, 2, 2])  # right, second, third, right
    assert top1(logits, labels) == 0.5
    assert top_k(logits, labels, 2) == 0.75
    assert top_k(logits, labels, 3) == 1.0
    assert mean_per_class(logits, labels) == pytest.approx((1 + 1 / 3) / 2)  # class 1 has no images


def test_equal_logits_count_as_right_in_every_metric() -> None:
    """No class is strictly higher; which one of equals `argmax` or `topk` would take plays no part."""
    logits, labels = torch.zeros(3, 7), torch.tensor([0, 1, 6])
    assert top1(logits, labels) == top_k(logits, labels, 5) == mean_per_class(logits, labels) == 1.0
    assert ece(logits, labels) == pytest.approx(1 - 1 / 7)
    two_ahead = torch.tensor([[1.0, 2.0, 2.0, 1.0]])
    assert [top_k(two_ahead, torch.tensor([3]), k) for k in (1, 2, 3)] == [0.0, 0.0, 1.0]


@given(seed=st.integers(0, 10_000))
def test_top_k_grows_with_k_whatever_is_equal(seed: int) -> None:
    logits, labels = random_case(seed)
    rounded = logits.round()
    shares = [top_k(rounded, labels, k) for k in range(1, 8)]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (top1(rounded, labels), 1.0)


@given(seed=st.integers(0, 10_000), n=st.integers(2, 80))
def test_scikit_learn_agrees(seed: int, n: int) -> None:
    logits, labels = random_case(seed, n=n)
    y, scores = labels.numpy(), logits.numpy()
    for k in (1, 5):
        expected = top_k_accuracy_score(y, scores, k=k, labels=np.arange(7))
        assert top_k(logits, labels, k) == pytest.approx(expected, abs=1e-12)
    assert top1(logits, labels) == top_k(logits, labels, 1)
    # scikit-learn too averages over the classes that have images.
    assert mean_per_class(logits, labels) == pytest.approx(_balanced(y, scores), abs=1e-12)


def _balanced(y: np.ndarray, scores: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of predicted classes without images
        return float(balanced_accuracy_score(y, scores.argmax(1)))


def slow_ece(logits: Tensor, labels: Tensor, bins: int) -> float:
    """The definition, one image and one interval at a time."""
    total = 0.0
    probabilities = [[math.exp(v) / sum(map(math.exp, row)) for v in row] for row in logits.double().tolist()]
    for b in range(bins):
        inside = [
            (max(p), p.index(max(p)) == y)
            for p, y in zip(probabilities, labels.tolist(), strict=True)
            if b / bins < max(p) <= (b + 1) / bins
        ]
        if inside:
            accuracy = sum(right for _, right in inside) / len(inside)
            confidence = sum(c for c, _ in inside) / len(inside)
            total += len(inside) / len(labels) * abs(accuracy - confidence)
    return total


@given(seed=st.integers(0, 10_000), bins=st.sampled_from([1, 2, 10, 15]))
def test_calibration_error_is_its_definition(seed: int, bins: int) -> None:
    logits, labels = random_case(seed, n=30)
    assert ece(logits, labels, bins=bins) == pytest.approx(slow_ece(logits, labels, bins), abs=1e-9)


def test_calibration_error_by_hand() -> None:
    # Confidences .75 (right) and .75 (wrong) share an interval: |.5 - .75|; .9 (right) has its own: |1 - .9|.
    odds = [3.0, 3.0, 9.0]
    logits = torch.tensor([[math.log(o), 0.0] for o in odds])
    labels = torch.tensor([0, 1, 0])
    assert ece(logits, labels) == pytest.approx(2 / 3 * 0.25 + 1 / 3 * 0.1, abs=1e-6)
    assert ece(torch.tensor([[200.0, 0.0]]), torch.tensor([0])) == 0.0  # confidence 1 falls into the last interval


@pytest.mark.parametrize("metric", [top1, mean_per_class, ece])
def test_nothing_is_measured_on_nothing_or_on_nan(metric: object) -> None:
    assert callable(metric)
    with pytest.raises(InputError, match="no images"):
        metric(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
    with pytest.raises(InputError, match="not finite"):
        metric(torch.tensor([[0.0, math.nan]]), torch.tensor([0]))

"""Metrics of calibration against hand calculations, scikit-learn and slow loops."""

from __future__ import annotations

import itertools
import math
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from vlmprompt.errors import InputError
from vlmprompt.results.calibration import (
    CALIBRATION_METRICS,
    SMALLEST,
    Bin,
    aurc,
    brier,
    calibration_metrics,
    ece,
    nll,
    reliability,
    risk_coverage,
)


def answers(seed: int, n: int, k: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n,k) and labels; some images are there twice, so that confidences are equal."""
    noise = np.random.default_rng(seed)
    scores = noise.normal(size=(n, k)) * 2
    labels = noise.integers(k, size=n)
    scores[np.arange(n), labels] += 1
    again = noise.integers(n, size=n // 3)
    scores[: len(again)] = scores[again]
    powers = np.exp(scores)
    return powers / powers.sum(axis=1, keepdims=True), labels


def told(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence, and whether it is right."""
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def test_bins_of_equal_width_by_hand() -> None:
    # .5 and .7 with a wrong and a right answer, .7 lies on an edge of ten bins and belongs below it; .95 is right.
    confidence, correct = [0.7, 0.95, 0.5, 0.65], [True, True, False, False]
    expected = [Bin(0.4, 0.5, 1, 0.5, 0.0), Bin(0.6, 0.7, 2, 0.675, 0.5), Bin(0.9, 1.0, 1, 0.95, 1.0)]
    found = reliability(confidence, correct, 10)
    for one, other in zip(found, expected, strict=True):
        assert (one.n, one.accuracy) == (other.n, other.accuracy)
        assert (one.low, one.high, one.confidence) == pytest.approx((other.low, other.high, other.confidence))
    assert ece(confidence, correct, 10) == pytest.approx((0.5 + 2 * 0.175 + 0.05) / 4)


def test_bins_of_equal_mass_by_hand() -> None:
    # Five images in two bins: the three least sure, then the two surest.
    confidence, correct = [0.9, 0.2, 0.4, 0.8, 0.3], [True, False, True, False, False]
    low, high = reliability(confidence, correct, 2, adaptive=True)
    assert (low.low, low.high, low.n) == (0.2, 0.4, 3) and (high.low, high.high, high.n) == (0.8, 0.9, 2)
    assert (low.accuracy, high.accuracy) == pytest.approx((1 / 3, 1 / 2))
    assert ece(confidence, correct, 2, adaptive=True) == pytest.approx((3 * (1 / 3 - 0.3) + 2 * (0.85 - 0.5)) / 5)


def test_fewer_images_than_bins() -> None:
    assert ece([0.6], [True], 15) == ece([0.6], [True], 15, adaptive=True) == pytest.approx(0.4)
    assert [one.n for one in reliability([0.6, 0.1], [True, False], 15, adaptive=True)] == [1, 1]


@given(seed=st.integers(0, 10_000), n=st.integers(1, 60), bins=st.sampled_from([1, 4, 15]), adaptive=st.booleans())
def test_the_error_is_that_of_its_bins_and_no_order_matters(seed: int, n: int, bins: int, adaptive: bool) -> None:
    confidence, correct = told(*answers(seed, n))
    found = reliability(confidence, correct, bins, adaptive)
    assert sum(one.n for one in found) == n and min(one.n for one in found) >= 1
    assert sum(one.n * one.accuracy for one in found) == pytest.approx(correct.sum())
    error = sum(one.n / n * abs(one.accuracy - one.confidence) for one in found)
    assert ece(confidence, correct, bins, adaptive) == pytest.approx(error, abs=1e-12)
    if adaptive:
        assert max(one.n for one in found) - min(one.n for one in found) <= 1
    order = np.random.default_rng(seed).permutation(n)
    shuffled = calibration_metrics(*(part[order] for part in (confidence, correct, confidence, correct)))
    assert shuffled == pytest.approx(calibration_metrics(confidence, correct, confidence, correct), abs=1e-12)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 60))
def test_scores_of_probabilities_are_their_definitions(seed: int, n: int) -> None:
    probabilities, labels = answers(seed, n)
    true = probabilities[np.arange(n), labels]
    expected = fmean(
        sum((p - (k == label)) ** 2 for k, p in enumerate(row))
        for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True)
    )
    assert brier(true, (probabilities**2).sum(axis=1)) == pytest.approx(expected)
    assert nll(true) == pytest.approx(log_loss(labels, probabilities, labels=np.arange(5)))


def test_a_probability_that_float32_cannot_hold_counts_as_its_smallest() -> None:
    assert nll([0.0, 1.0]) == pytest.approx(149 * math.log(2) / 2)
    assert float(np.float32(SMALLEST)) == SMALLEST and np.float32(SMALLEST / 2) == 0


def test_area_under_the_risk_coverage_curve_by_hand() -> None:
    # The surest is right, the next wrong, the last right: risks 0, 1/2, 1/3.
    coverage, risk = risk_coverage([0.2, 0.9, 0.5], [True, True, False])
    assert coverage.tolist() == pytest.approx([1 / 3, 2 / 3, 1]) and risk.tolist() == pytest.approx([0, 1 / 2, 1 / 3])
    assert aurc([0.2, 0.9, 0.5], [True, True, False]) == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)
    assert aurc([0.5, 0.5], [True, False]) == pytest.approx((0.5 + 0.5) / 2)  # (0 + 1/2 and 1 + 1/2) / 2, the mean


@given(seed=st.integers(0, 10_000), n=st.integers(1, 6))
def test_equal_confidences_count_as_the_mean_over_their_orders(seed: int, n: int) -> None:
    noise = np.random.default_rng(seed)
    confidence, correct = noise.integers(1, 4, n) / 4, noise.random(n) < 0.5
    areas = []
    for order in itertools.permutations(range(n)):
        surest_first = sorted(order, key=lambda i: -confidence[i])  # stable: keeps the order of equal ones
        wrong = np.cumsum([not correct[i] for i in surest_first])
        areas.append(fmean(wrong / np.arange(1, n + 1)))
    assert aurc(confidence, correct) == pytest.approx(fmean(areas))


def test_all_metrics_have_their_names() -> None:
    confidence, correct = told(*answers(3, 40))
    assert calibration_metrics(confidence, correct, confidence, correct).keys() == CALIBRATION_METRICS.keys()
    assert not any(CALIBRATION_METRICS.values())  # lower is better, of each


@pytest.mark.parametrize("metric", [ece, aurc, brier, lambda a, b: nll(a), reliability])
def test_nothing_is_said_of_no_images(metric: object) -> None:
    assert callable(metric)
    with pytest.raises(InputError, match="no images"):
        metric([], [])
    if metric in (ece, aurc, brier, reliability):
        with pytest.raises(ValueError, match="one number an image"):
            metric([0.5], [True, False])

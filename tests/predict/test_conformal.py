"""Prediction sets: thresholds by hand, and coverage within the bounds that theory gives."""

from __future__ import annotations

import math
from statistics import fmean

import numpy as np
import pytest
import torch
from scipy.stats import betabinom

from vlmprompt.errors import InputError
from vlmprompt.predict.conformal import (
    EVERYTHING,
    conformal_summary,
    conformal_threshold,
    least_images,
    prediction_sets,
    threshold_of,
)


def test_a_threshold_by_hand() -> None:
    """Nine images, alpha 0.2: the ceil(10 x 0.8) = 8th smallest score."""
    true = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    assert threshold_of(true, 0.2) == pytest.approx(0.8)
    assert threshold_of(true, 0.1) == pytest.approx(0.9)  # the 9th of 9
    assert threshold_of(true, 0.05) == EVERYTHING  # the 10th would be needed


def test_sets_by_hand() -> None:
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [0.05, 0.05, 0.9]], dtype=torch.double)
    threshold = conformal_threshold(probabilities, torch.tensor([0, 1, 2]), 0.5)  # scores .3, .65, .1: the 2nd
    assert threshold == pytest.approx(0.3)
    sets = prediction_sets(probabilities, threshold)
    assert sets.tolist() == [[True, False, False], [False, False, False], [False, False, True]]
    assert prediction_sets(probabilities, EVERYTHING).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_image_that_set_the_threshold_has_its_class_in_its_set(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    p = torch.randn(199, 6, generator=generator, dtype=dtype).softmax(dim=1)
    labels = torch.randint(6, (199,), generator=generator)
    threshold = conformal_threshold(p, labels, 0.1)
    held = prediction_sets(p, threshold).gather(1, labels[:, None])
    assert int(held.sum()) == 180  # ceil(200 x 0.9), exactly: no two scores are equal
    assert prediction_sets(p.numpy(), threshold).tolist() == prediction_sets(p, threshold).tolist()  # type: ignore[arg-type]


@pytest.mark.parametrize(("alpha", "n"), [(0.05, 19), (0.1, 9), (0.2, 4), (0.3, 3), (0.07, 14)])
def test_so_many_images_are_needed(alpha: float, n: int) -> None:
    scores = np.linspace(0.1, 0.9, n)
    assert least_images(alpha) == n
    assert threshold_of(scores, alpha) < EVERYTHING
    assert threshold_of(scores[:-1], alpha) == EVERYTHING


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2])
def test_coverage_is_as_theory_has_it(alpha: float) -> None:
    """Of 200 splits into 50 and 150: each within bounds that hold for all of them at once, and their mean."""
    noise = np.random.default_rng(12)
    n, test_n = 50, 150
    place = math.ceil((n + 1) * (1 - alpha) - 1e-9)
    found = []
    for _ in range(200):
        true = noise.beta(4, 2, size=n + test_n)  # what the probabilities are does not matter
        (one,) = conformal_summary(true[:n], true[n:], [alpha])
        assert (one.n, one.test_n) == (n, test_n)
        found.append(one.coverage)
    # Of test images as many are covered as beta-binomial says (Vovk, 2012).
    law = betabinom(test_n, place, n + 1 - place)
    low, high = law.ppf(0.001 / 400) / test_n, law.ppf(1 - 0.001 / 400) / test_n
    assert low <= min(found) and max(found) <= high
    spread = law.std() / test_n / math.sqrt(len(found))
    assert abs(fmean(found) - law.mean() / test_n) < 3 * spread < 1 / (n + 1)  # one place off would show
    assert place / (n + 1) >= 1 - alpha and law.mean() / test_n == pytest.approx(place / (n + 1))


def test_a_summary_by_hand() -> None:
    own, test = [0.9, 0.6, 0.5, 0.8], [0.95, 0.55, 0.5, 0.1]
    (wide, narrow) = conformal_summary(own, test, [0.2, 0.5])
    assert (wide.threshold, narrow.threshold) == pytest.approx((0.5, 0.4))
    assert (wide.coverage, narrow.coverage) == (0.75, 0.25)


def test_what_cannot_be_done() -> None:
    with pytest.raises(InputError, match="no images to set"):
        threshold_of([], 0.1)
    with pytest.raises(InputError, match="no images to measure"):
        conformal_summary([0.5], [])
    for alpha in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            threshold_of([0.5], alpha)

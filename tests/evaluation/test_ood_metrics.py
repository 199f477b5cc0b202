"""OOD metrics against counting by hand and by loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmprompt.errors import InputError
from vlmprompt.evaluation.ood_metrics import ood_metrics

SCORES = st.lists(st.integers(0, 6).map(lambda i: i / 7), min_size=1, max_size=40)


def test_by_hand() -> None:
    """4 ID and 5 OOD images; the OOD scores 0.75 and 0.65 lie above some of ID."""
    found = ood_metrics([0.9, 0.8, 0.7, 0.6], [0.75, 0.65, 0.3, 0.2, 0.1])
    # Recall 1 needs the threshold 0.6 (2 of 5 OOD pass); 0.75 would be farther from 0.95 than 1 is.
    assert found["fpr95_id_pos"] == pytest.approx(2 / 5)
    # All OOD images are caught at 0.75, where 0.7 and 0.6 are rejected as well.
    assert found["fpr95_ood_pos"] == pytest.approx(2 / 4)
    assert found["auroc"] == pytest.approx((5 + 5 + 4 + 3) / 20)
    assert found["aupr_in"] == pytest.approx((1 + 1 + 3 / 4 + 4 / 6) / 4)
    assert found["aupr_out"] == pytest.approx((1 + 1 + 1 + 4 / 5 + 5 / 7) / 5)


def test_perfect_and_useless() -> None:
    perfect = ood_metrics([2.0, 3.0], [0.0, 1.0])
    assert perfect == {name: (0.0 if name.startswith("fpr") else 1.0) for name in perfect}
    useless = ood_metrics([1.0, 1.0], [1.0, 1.0])
    assert (useless["fpr95_id_pos"], useless["fpr95_ood_pos"], useless["auroc"]) == (1.0, 1.0, 0.5)


def nearest_recall(inside: list[float], outside: list[float]) -> float:
    """The rule as the published code walks it: from the threshold that keeps all of ID upwards, first minimum."""
    best = (math.inf, math.nan)
    for threshold in sorted({*inside, *outside}):
        if threshold < min(inside):  # a higher threshold keeps all of ID as well
            continue
        recall = sum(s >= threshold for s in inside) / len(inside)
        accepted = sum(s >= threshold for s in outside) / len(outside)
        if abs(recall - 0.95) < best[0]:
            best = (abs(recall - 0.95), accepted)
    return best[1]


def first_recall(inside: list[float], outside: list[float]) -> float:
    """Raise the threshold until at least 95 % of OOD lie at or below it; the share of ID there."""
    for threshold in sorted({*inside, *outside}):
        if sum(s <= threshold for s in outside) / len(outside) >= 0.95:
            return sum(s <= threshold for s in inside) / len(inside)
    raise AssertionError


@settings(max_examples=150)
@given(inside=SCORES, outside=SCORES)
def test_both_conventions_by_loops_with_ties(inside: list[float], outside: list[float]) -> None:
    found = ood_metrics(inside, outside)
    assert found["fpr95_id_pos"] == pytest.approx(nearest_recall(inside, outside))
    assert found["fpr95_ood_pos"] == pytest.approx(first_recall(inside, outside))
    wins = sum((i > o) + (i == o) / 2 for i in inside for o in outside)
    assert found["auroc"] == pytest.approx(wins / (len(inside) * len(outside)))


@settings(max_examples=30)
@given(inside=SCORES, outside=SCORES)
def test_only_the_order_counts(inside: list[float], outside: list[float]) -> None:
    def changed(values: list[float]) -> list[float]:
        return [math.exp(3 * v) - 7 for v in values]

    assert ood_metrics(changed(inside), changed(outside)) == pytest.approx(ood_metrics(inside, outside))


def test_close_float32_scores_are_told_apart() -> None:
    inside = torch.tensor([1e-3], dtype=torch.float32)
    below = torch.nextafter(inside, torch.zeros(1))
    assert ood_metrics(inside, below)["auroc"] == 1.0
    assert ood_metrics(np.array([0.1]), np.array([0.2]))["auroc"] == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite(bad: float) -> None:
    with pytest.raises(InputError, match="1 of 2 OOD scores are not finite"):
        ood_metrics([1.0], [0.5, bad])
    with pytest.raises(InputError, match="1 of 1 in-distribution scores"):
        ood_metrics([bad], [0.5])


def test_empty_sides() -> None:
    with pytest.raises(InputError, match="no OOD scores"):
        ood_metrics([1.0], [])
    with pytest.raises(InputError, match="no in-distribution scores"):
        ood_metrics(torch.empty(0), [1.0])

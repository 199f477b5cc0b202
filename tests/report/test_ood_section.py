"""Scores of known and other images: curves against pair counts, against scikit-learn and the metrics of the suite."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from sklearn.metrics import auc, roc_curve

from tests.report.drawn_runs import figures, paths, run_of, scores_run, tables, texts
from vlmprompt.errors import InputError
from vlmprompt.evaluation.ood_metrics import ood_metrics
from vlmprompt.report.drawing import PALETTE
from vlmprompt.report.sections import ood

IN, OUT = [0.9, 0.8, 0.8, 0.4], [0.8, 0.3, 0.2]


def many(seed: int, n: int, shift: float) -> list[float]:
    """Scores with some equal ones among them."""
    random = Random(seed)
    return [round(random.gauss(shift, 1), 2) for _ in range(n)]


def test_a_curve_by_hand() -> None:
    curve = ood.roc(np.array(IN), np.array(OUT))
    corners = list(zip(curve.fpr.tolist(), curve.tpr.tolist(), strict=True))
    assert corners == [(0, 0), (0, 0.25), (1 / 3, 0.75), (1 / 3, 1), (2 / 3, 1), (1, 1)]
    pairs = [1.0 if i > o else 0.5 if i == o else 0.0 for i in IN for o in OUT]
    assert curve.auroc == pytest.approx(sum(pairs) / len(pairs))
    assert curve.fpr95 == pytest.approx(1 / 3)  # a recall of 1 is nearest to 95 %


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_numbers_are_those_of_the_suite(seed: int) -> None:
    inside, outside = many(seed, 300, 1), many(seed + 10, 200, 0)
    curve, expected = ood.roc(np.array(inside), np.array(outside)), ood_metrics(inside, outside)
    assert curve.auroc == pytest.approx(expected["auroc"], rel=1e-12)
    assert curve.fpr95 == pytest.approx(expected["fpr95_id_pos"], rel=1e-12)
    labels = [1] * 300 + [0] * 200
    fpr, tpr, _ = roc_curve(labels, inside + outside, drop_intermediate=False)
    assert (curve.fpr == fpr).all() and (curve.tpr == tpr).all()
    pairs = sum((i > o) + 0.5 * (i == o) for i in inside for o in outside)
    assert curve.auroc == pytest.approx(pairs / (300 * 200))


def test_thinned_curves_go_through_corners_of_the_exact_one() -> None:
    random = Random(0)
    sides = [np.array([random.gauss(shift, 1) for _ in range(3000)]) for shift in (1, 0)]
    curve = ood.roc(*sides)
    thin = ood.thinned(curve)
    assert len(curve.fpr) > 2000 and len(thin.fpr) <= 300
    corners = set(zip(curve.fpr.tolist(), curve.tpr.tolist(), strict=True))
    assert set(zip(thin.fpr.tolist(), thin.tpr.tolist(), strict=True)) <= corners
    assert (thin.fpr[0], thin.tpr[0], thin.fpr[-1], thin.tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(thin.fpr) >= 0).all() and (np.diff(thin.tpr) >= 0).all()
    assert auc(thin.fpr, thin.tpr) == pytest.approx(curve.auroc, abs=1e-3)
    assert (thin.auroc, thin.fpr95) == (curve.auroc, curve.fpr95)


def test_few_corners_are_all_kept() -> None:
    curve = ood.roc(np.array(IN), np.array(OUT))
    assert ood.thinned(curve) is curve


def test_equal_scores_are_a_diagonal() -> None:
    curve = ood.roc(np.ones(5), np.ones(4))
    assert curve.fpr.tolist() == curve.tpr.tolist() == [0, 1]
    assert (curve.auroc, curve.fpr95) == (0.5, 1)
    edges, inside, outside = ood.histogram(np.ones(5), np.ones(4))
    assert (edges[0], edges[-1], inside.sum(), outside.sum()) == (0.5, 1.5, 1, 1)


def test_shares_of_a_histogram_by_hand() -> None:
    edges, inside, outside = ood.histogram(np.array(IN), np.array(OUT), bins=7)
    assert edges.tolist() == pytest.approx([0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    assert inside.sum() == outside.sum() == pytest.approx(1)
    assert inside.tolist()[3:5] == [0, 0] and inside[0] == 0


def test_the_curve_that_is_drawn_has_its_corners() -> None:
    section = ood.section([scores_run("r", {"mcm": IN}, {"mcm": OUT})])
    histogram, roc = figures(section)
    (curve,) = [line for line in paths(roc, f"stroke: {PALETTE[0]}") if len(line) == 6]
    (x0, y0), (x1, y1) = curve[0], curve[-1]
    scaled = [((x - x0) / (x1 - x0), (y - y0) / (y1 - y0)) for x, y in curve]
    expected = [(0, 0), (0, 0.25), (1 / 3, 0.75), (1 / 3, 1), (2 / 3, 1), (1, 1)]
    assert [part for corner in scaled for part in corner] == pytest.approx(
        [part for corner in expected for part in corner], abs=1e-3
    )
    pairs = [1.0 if i > o else 0.5 if i == o else 0.0 for i in IN for o in OUT]
    auroc = f"{100 * sum(pairs) / 12:.2f}"
    assert f"mcm, AUROC {auroc} %" in texts(roc)
    (table,) = tables(section)
    assert table.rows == (("mcm", auroc, "33.33"),)
    assert "n = 4 images in (photos), 3 out (far)" in table.caption
    assert "score mcm" in texts(histogram) and "n = 4 images in (photos), 3 out (far)" in histogram.caption


def test_scores_of_one_set_are_drawn_together() -> None:
    section = ood.section([scores_run("r", {"energy": IN, "msp": IN}, {"energy": OUT, "msp": OUT})])
    assert [row[0] for row in tables(section)[0].rows] == ["energy", "msp"]
    assert [figure.title for figure in figures(section)] == ["Scores of r against far", "ROC of r against far"]
    assert "score msp" in texts(figures(section)[0])


def test_scores_that_are_not_finite_are_named_not_drawn() -> None:
    bad = {"mcm": [*IN, math.nan], "msp": [*IN, 0.5]}
    section = ood.section([scores_run("r", bad, {"mcm": OUT, "msp": OUT})])
    assert [row[:2] for row in tables(section)[0].rows] == [("msp", "80.00"), ("mcm", "not finite")]
    section = ood.section([scores_run("r", {"mcm": [math.inf]}, {"mcm": OUT})])
    assert figures(section) == [] and len(tables(section)) == 1


def test_no_scores_no_section() -> None:
    assert ood.section([run_of("r")]) is None
    with pytest.raises(InputError, match="both sides"):
        ood.roc(np.zeros(0), np.ones(2))

"""Accuracy by class, confusion, reliability: numbers by hand and by scikit-learn, and that they are what is drawn."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, confusion_matrix, log_loss

from tests.report.drawn_runs import classified_run, figures, paths, run_of, tables, texts, told
from tests.report.material import details, measured
from vlmprompt.report.drawing import PALETTE
from vlmprompt.report.section import Text
from vlmprompt.report.sections import classes, confusion, reliability
from vlmprompt.results.classes import class_lines

NAMES = ("ant", "bee", "$x_1$", "<b>cat</b>", "unused")
LABEL = [0, 0, 0, 0, 1, 1, 2, 2, 3]
PREDICTION = [0, 0, 0, 1, 1, 0, 3, 3, 3]


def random_told(n_classes: int, n: int, seed: int = 0) -> tuple[list[int], list[int]]:
    """Labels and predictions, right in about half of the images."""
    random = Random(seed)
    label = [i % n_classes for i in range(n)]
    return label, [i if random.random() < 0.5 else random.randrange(n_classes) for i in label]


def test_bars_are_as_long_as_the_accuracies() -> None:
    section = classes.section([classified_run("r", told(LABEL, PREDICTION, NAMES))])
    (figure,) = figures(section)
    bars = [corners for corners in paths(figure, f"fill: {PALETTE[4]}") if len(corners) > 2]
    widths = [max(x for x, _ in bar) - min(x for x, _ in bar) for bar in bars]
    assert [width / widths[-1] for width in widths] == pytest.approx([0, 0.5, 0.75, 1], abs=1e-3)
    drawn = texts(figure)
    assert [text for text in drawn if text in NAMES] == ["$x_1$", "bee", "ant", "<b>cat</b>"]
    assert {"0.0  (2)", "50.0  (2)", "75.0  (4)", "100.0  (1)"} <= set(drawn)
    assert figure.caption == (
        "n = 9 images of photos, 4 classes; without images and left out: 1 of 5. Dashed: mean over classes, 56.25 %."
    )
    (table,) = tables(section)
    assert table.rows[1] == ("bee", "50.00", "1", "2", "ant (1)") and table.folded


def test_a_thousand_classes_are_folded() -> None:
    names = [f"class {i} {'of a very long name ' * 5}" for i in range(1000)]
    label, prediction = random_told(1000, 4000)
    run = classified_run("r", told(label, prediction, names))
    found = class_lines(run.details["1".zfill(64)])
    bars = classes.folded(found)
    assert len(bars) == 41 and (bars[20].classes, bars[20].n) == (960, 3840)
    assert bars[20].accuracy == pytest.approx(sum(one.accuracy for one in found[20:980]) / 960)
    assert [bar.accuracy for bar in bars[:20]] == [one.accuracy for one in found[:20]]
    assert [bar.accuracy for bar in bars[21:]] == [one.accuracy for one in found[980:]]
    drawn = figures(classes.section([run])) + figures(confusion.section([run]))
    assert sum(len(figure.svg) for figure in drawn) < 150_000
    assert "the other 960 classes: mean" in texts(drawn[0])
    assert "class 0 of a very long name of" not in "".join(texts(drawn[0]))


def test_the_matrix_is_scikit_learn_s() -> None:
    label, prediction = random_told(7, 300)
    found = confusion.heat_map(told(label, prediction, [str(i) for i in range(7)]))
    assert (found.counts == confusion_matrix(label, prediction)).all()
    assert (found.images.tolist(), found.elsewhere) == (np.bincount(label).tolist(), 0)


def test_the_worst_pairs_by_hand() -> None:
    section = confusion.section([classified_run("r", told(LABEL, PREDICTION, NAMES))])
    (table,) = tables(section)
    assert table.rows == (
        ("$x_1$", "<b>cat</b>", "2", "100.0", "2"),
        ("bee", "ant", "1", "50.0", "2"),
        ("ant", "bee", "1", "25.0", "4"),
    )
    assert table.caption == "4 of n = 9 images of photos were told wrong."
    (figure,) = figures(section)
    assert set(NAMES) <= set(texts(figure))
    assert [text for text in texts(figure) if text.isdigit()] == ["3", "1", "1", "1", "2", "1"]


def test_of_many_classes_the_most_confused_are_shown() -> None:
    names = [str(i) for i in range(70)]
    label = [i for i in range(70) for _ in range(3)]
    prediction = list(label)
    for i in range(0, 40, 2):  # these take part in confusions, and 68 and 69 in the most
        prediction[3 * i] = i + 1
    prediction[3 * 69 : 3 * 70] = [68, 68, 0]
    found = confusion.heat_map(told(label, prediction, names))
    assert len(found.classes) == 64
    assert found.classes == (*range(62), 68, 69)
    assert found.elsewhere == 0
    assert found.counts[-1].tolist() == [1, *[0] * 61, 2, 0]
    far = [0] * 70  # every class is taken for the first, which most are shown with
    assert confusion.heat_map(told(range(70), far, names)).elsewhere == 0


def test_images_taken_for_classes_that_are_not_shown_are_counted() -> None:
    n = 100
    label = [i for i in range(n) for _ in range(2)]
    prediction = [(i + 1) % n if j == 0 else i for i in range(n) for j in range(2)]  # each for the next one
    found = confusion.heat_map(told(label, prediction, [str(i) for i in range(n)]))
    assert found.classes == tuple(range(64))
    assert found.elsewhere == 1 and int(found.images.sum()) == 128


def test_one_class_and_no_mistake() -> None:
    runs = [classified_run("r", told([0, 0], [0, 0], ["only"], confidence=1.0))]
    section = confusion.section(runs)
    assert figures(section) == [] and tables(section)[0].rows == ()
    assert len(figures(classes.section(runs))) == len(figures(reliability.section(runs))) == 1


def test_calibration_numbers_are_scikit_learn_s() -> None:
    random = Random(3)
    p_BK = np.array([[random.random() for _ in range(4)] for _ in range(200)])
    p_BK /= p_BK.sum(axis=1, keepdims=True)
    label = [random.randrange(4) for _ in range(200)]
    found = details([str(i) for i in range(200)], "abcd", p_BK, label)
    section = reliability.section([classified_run("r", found)])
    (row,) = tables(section)[0].rows
    one_hot = np.eye(4)[label]
    brier = sum(brier_score_loss(one_hot[:, k], p_BK[:, k]) for k in range(4))
    confidence, right = p_BK.max(axis=1), p_BK.argmax(axis=1) == label
    ece = sum(
        abs(float(right[inside].mean()) - float(confidence[inside].mean())) * inside.mean()
        for i in range(15)
        if (inside := (confidence > i / 15) & (confidence <= (i + 1) / 15)).any()
    )
    assert row[1:4] == ("200", f"{100 * right.mean():.2f}", f"{100 * ece:.2f}")
    assert row[5:7] == (f"{brier:.4f}", f"{log_loss(label, p_BK):.4f}")
    (figure,) = figures(section)
    assert f"15 bins of equal width, ECE {100 * ece:.2f} %" in texts(figure)
    assert figure.caption.startswith("n = 200 images of photos; mean confidence ")


def test_bins_that_are_drawn_by_hand() -> None:
    found = details("abcd", ("cat", "dog"), [[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]], [0, 1, 0, 1])
    run = classified_run("r", found)
    (outcome,) = reliability.classified([run])
    equal = reliability.bins_of(outcome)["equal width"]
    assert [(one.n, one.accuracy) for one in equal] == [(2, 1.0), (2, 0.5)]  # 0.6 is in (8/15, 9/15]
    (figure,) = figures(reliability.section([run]))
    heights = []
    for corners in paths(figure, f"fill: {PALETTE[4]}")[:2]:
        heights.append(max(y for _, y in corners) - min(y for _, y in corners))
    assert heights[0] / heights[1] == pytest.approx(2, abs=1e-3)


def test_numbers_without_details_say_what_to_run() -> None:
    runs = [run_of("r", [measured("r", value=0.5)])]
    section = classes.section(runs)
    assert section is not None and isinstance(section.parts[0], Text)
    assert "vlmprompt evaluate RUN --force" in section.parts[0].text
    assert confusion.section(runs) is None and reliability.section(runs) is None
    assert [made.section([run_of("r")]) for made in (classes, confusion, reliability)] == [None] * 3


def test_many_runs_are_cut_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlmprompt.report.measured.MOST_OUTCOMES", 2)
    runs = [classified_run(f"r{i}", told([0, 1], [0, 0], ["a", "b"]), i) for i in range(1, 5)]
    section = reliability.section(runs)
    assert len(figures(section)) == 2 and len(tables(section)[0].rows) == 2
    assert section is not None and "the first 2 of 4; name fewer runs" in section.intro


def test_references_have_no_classes_of_their_own_beside_runs() -> None:
    own = classified_run("r", told([0, 1], [0, 0], ["a", "b"]), 1)
    beside = classified_run("r", told([0, 1], [0, 1], ["a", "b"]), 2, method="zeroshot", reference=True)
    assert [figure.title for figure in figures(classes.section([own, beside]))] == ["r"]
    assert [figure.title for figure in figures(reliability.section([own, beside]))] == ["r", "zeroshot beside r"]
    assert [figure.title for figure in figures(classes.section([beside]))] == ["zeroshot beside r"]

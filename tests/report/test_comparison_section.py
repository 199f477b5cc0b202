"""Methods compared two by two: who is compared with whom, on which images, and the numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scipy import stats

from tests.report.drawn_runs import classified_run, figures, run_of, tables, texts, told
from tests.report.material import key_of, measured
from vlmprompt.report.run import ReportRun
from vlmprompt.report.section import Text
from vlmprompt.report.sections import comparison

NAMES = ["ant", "bee"]
LABEL = [0] * 20


def run(name: str, right: list[int], number: int, *, seed: int | None = 1, method: str = "coop") -> ReportRun:
    """A run that is right on these of twenty images."""
    found = told(LABEL, [0 if i in right else 1 for i in range(20)], NAMES)
    shots = None if seed is None else 4
    return classified_run(name, found, number, method=method, seed=seed, shots=shots, reference=seed is None)


def test_two_runs_by_hand() -> None:
    runs = [run("one", list(range(15)), 1), run("two", list(range(13, 18)), 2, method="bloom")]
    section = comparison.section(runs)
    (table,) = tables(section)
    assert table.columns == ("A", "B", "n", "A (%)", "B (%)", "A − B [95% interval]", "A alone", "B alone", "p")
    (row,) = table.rows
    assert row[:5] == ("coop, 4 shots", "bloom, 4 shots", "20", "75.00", "25.00")
    assert row[5].startswith("+50.00 [") and row[6:8] == ("13", "3")
    assert row[8] == f"{stats.binomtest(3, 16).pvalue:.4f}"
    assert "2,000 resamples of images; A alone" in table.caption and "exact binomial" in table.caption
    (figure,) = figures(section)
    assert figure.title == "accuracy test on photos"
    assert figure.caption.startswith("n = 20 images, the same for both.")
    assert {"coop, 4 shots", "− bloom, 4 shots"} <= set(texts(figure))


def test_images_in_another_order_are_the_same_images() -> None:
    one = run("one", list(range(15)), 1)
    two = run("two", list(range(13, 18)), 2, method="bloom")
    found = two.details[key_of(2)]
    turned = {
        name: getattr(found, name)[::-1]
        for name in ("label", "prediction", "confidence", "true_probability", "square_sum")
    }
    other = replace(two, details={key_of(2): replace(found, ids=found.ids[::-1], **turned)})
    assert tables(comparison.section([one, other]))[0].rows == tables(comparison.section([one, two]))[0].rows


def test_other_images_are_told_and_the_rest_is_compared() -> None:
    two = run("two", [1], 2, method="bloom")
    found = two.details[key_of(2)]
    renamed = replace(two, details={key_of(2): replace(found, ids=("new.png", *found.ids[1:]))})
    runs = [run("one", [0, 1], 1), renamed, run("three", [2], 3, method="vpt")]
    section = comparison.section(runs)
    assert section is not None
    (told_off,) = [part for part in section.parts if isinstance(part, Text)]
    assert told_off.text.startswith(
        "accuracy test on photos: one and two were not measured on the same images: 1 were measured for one alone "
        "(0.png), 1 for two alone (new.png)"
    )
    assert [row[:2] for row in tables(section)[0].rows] == [("coop, 4 shots", "vpt, 4 shots")]


def test_images_of_another_class_are_told() -> None:
    two = run("two", [1], 2, method="bloom")
    other = replace(two, details={key_of(2): replace(two.details[key_of(2)], class_names=("ant eater", "bee"))})
    section = comparison.section([run("one", [0], 1), other])
    assert section is not None and isinstance(section.parts[0], Text) and len(section.parts) == 1
    assert "image 0.png is of class 'ant' for one, of 'ant eater' for two" in section.parts[0].text


def test_seeds_are_put_together_and_tested_one_by_one() -> None:
    runs = [run(f"c{s}", list(range(10 + s)), s, seed=s) for s in (1, 2)]
    runs += [run(f"b{s}", list(range(5 * s)), s + 2, seed=s, method="bloom") for s in (1, 2)]
    runs += [run("c1", [0, 1], 9, seed=None, method="zeroshot")]
    summary, by_seed = tables(comparison.section(runs))
    assert [row[:2] for row in summary.rows] == [
        ("coop, 4 shots, 2 seeds", "bloom, 4 shots, 2 seeds"),
        ("coop, 4 shots, 2 seeds", "zeroshot"),
        ("bloom, 4 shots, 2 seeds", "zeroshot"),
    ]
    # Tests are of seeds one by one: here they have no columns, which would be empty.
    assert summary.rows[0][3:5] == ("57.50", "37.50") and len(summary.rows[0]) == 6
    assert summary.columns[-1] == "A − B [95% interval]"
    assert "resamples of images and seeds (the same for both); or of images and seeds (of each side)" in summary.caption
    # Seed 1: 11 and 5 images; seed 2: 12 and 10; zero-shot is right on 2 beside every seed.
    assert [row[2:6] for row in by_seed.rows] == [
        ("1", "20", "6", "0"),
        ("2", "20", "2", "0"),
        ("1", "20", "9", "0"),
        ("2", "20", "10", "0"),
        ("1", "20", "3", "0"),
        ("2", "20", "8", "0"),
    ]
    assert by_seed.rows[0][6] == f"{2 / 2**6:.4f}" and by_seed.folded
    # Of six tests, exact each: p = 2 / 2^k for k images that one alone gets right, in Holm's order 10, 9, 8, 6, 3, 2.
    p = {k: 2 / 2**k for k in (6, 2, 9, 10, 3, 8)}
    corrected = {k: min(1.0, (6 - rank) * p[k]) for rank, k in enumerate(sorted(p, reverse=True))}
    assert [row[7] for row in by_seed.rows] == [f"{corrected[k]:.4f}" for k in p]
    assert by_seed.columns[-1] == "p (Holm)" and "Holm: corrected for 6 tests" in by_seed.caption


def test_several_tests_are_corrected() -> None:
    runs = [run(m, list(range(n)), n, method=m) for m, n in (("a", 4), ("b", 10), ("c", 18))]
    (table,) = tables(comparison.section(runs))
    p = [2 / 2**6, 2 / 2**14, 2 / 2**8]  # a-b, a-c, b-c
    holm = [p[0], 3 * p[1], 2 * p[2]]
    assert [row[8] for row in table.rows] == [f"{value:.4f}" for value in p]
    assert [row[9] for row in table.rows] == [f"{value:.4f}" for value in holm]
    assert "Holm: corrected for 3 tests" in table.caption


def test_settings_and_single_runs_are_told_apart() -> None:
    runs = [run(name, [0], i, seed=1) for i, name in enumerate(("x", "y"), 1)]
    labels = [side.label for side in comparison.sides_of(runs)["accuracy test on photos"]]
    assert labels == ["x", "y"]
    rated = [
        replace(one, rows=[one.rows[0].model_copy(update={"setup": {"train.lr": lr}})])
        for one, lr in zip(runs, ("0.1", "0.2"), strict=True)
    ]
    labels = [side.label for side in comparison.sides_of(rated)["accuracy test on photos"]]
    assert labels == ["coop, 4 shots, lr 0.1", "coop, 4 shots, lr 0.2"]


def test_many_methods_are_compared_with_the_first() -> None:
    sides = comparison.sides_of([run(f"m{i}", [i], i + 1, method=f"m{i}") for i in range(8)])
    found, refused = comparison.compare(sides["accuracy test on photos"])
    assert [(one.first, one.second) for one in found] == [("m0, 4 shots", f"m{i}, 4 shots") for i in range(1, 8)]
    assert refused == []


def test_the_same_images_are_compared_once() -> None:
    one = run("one", [0], 1)
    few = measured("one", 5, suite="few-shot", cell="4-shot", seed=1, shots=4)
    twice = replace(one, rows=[*one.rows, few], details={**one.details, key_of(5): one.details[key_of(1)]})
    assert list(comparison.sides_of([twice, run("two", [1], 2)])) == ["accuracy test on photos"]


def test_equal_answers() -> None:
    (table,) = tables(comparison.section([run("one", [0], 1), run("two", [0], 2, method="bloom")]))
    assert table.rows[0][5:] == ("+0.00 [+0.00, +0.00]", "0", "0", "1.0000")


@pytest.mark.parametrize("runs", [[], [run_of("r")], [run("one", [0], 1)]])
def test_nothing_to_compare(runs: list[ReportRun]) -> None:
    assert comparison.section(runs) is None


def test_one_shot_is_no_plural() -> None:
    found = [run(f"r{i}", [i], i, method=f"m{i}") for i in (1, 2)]
    runs = [replace(one, rows=[one.rows[0].model_copy(update={"shots": 1})]) for one in found]
    assert [side.label for side in comparison.sides_of(runs)["accuracy test on photos"]] == ["m1, 1 shot", "m2, 1 shot"]


def of_few_shot(one: ReportRun) -> ReportRun:
    """The same images, measured by the suite few-shot."""
    return replace(one, rows=[one.rows[0].model_copy(update={"suite": "few-shot", "cell": "4-shot"})])


def test_few_shot_is_compared_where_accuracy_was_not_measured_of_all() -> None:
    one, two, three = (run(f"r{i}", [i], i, method=f"m{i}") for i in (1, 2, 3))
    found = comparison.sides_of([one, of_few_shot(two), of_few_shot(three)])
    assert [side.label for side in found["few-shot 4-shot on photos"]] == ["m2, 4 shots", "m3, 4 shots"]
    # Where accuracy says it of the same methods, few-shot would say it again.
    both = [replace(one, rows=[*one.rows, *of_few_shot(run("r1", [1], 4, method="m1")).rows]), two, of_few_shot(three)]
    assert "few-shot 4-shot on photos" in comparison.sides_of(both)
    assert list(comparison.sides_of([one, two, of_few_shot(replace(one, name="r9"))])) == ["accuracy test on photos"]

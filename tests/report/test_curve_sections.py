"""Learning curves, few-shot curves, halves and domains: what is drawn, by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.report.drawn_runs import figures, paths, run_of, texts
from tests.results.result_rows import row
from vlmprompt.report.drawing import PALETTE
from vlmprompt.report.sections import base_new, domains, few_shot, learning
from vlmprompt.results.rows import ResultRow


def step(number: int, loss: float | None, accuracy: float = 0.5) -> dict[str, Any]:
    """A line of a log."""
    return {"step": number, "epoch": 1, "lr": 0.1, "loss": loss, "parts": {}, "accuracy": accuracy, "seconds": 0.1}


def epoch(number: int, val_accuracy: float) -> dict[str, Any]:
    """A line of a log."""
    return {"step": number, "epoch": 1, "epoch_end": True, "loss": 1.0, "accuracy": 0.5, "val_accuracy": val_accuracy}


def test_few_steps_are_drawn_one_by_one() -> None:
    log = [step(1, 3.0, 0.25), step(2, 2.0), epoch(2, 0.4), step(3, 1.0), step(4, 1.5, 0.75), epoch(4, 0.6)]
    curves = learning.curves_of(run_of("r", log=log))
    assert curves is not None
    assert [(w.middle, w.mean, w.n) for w in curves.loss] == [(1, 3.0, 1), (2, 2.0, 1), (3, 1.0, 1), (4, 1.5, 1)]
    assert [w.mean for w in curves.accuracy] == [0.25, 0.5, 0.5, 0.75]
    assert (dict(curves.val_accuracy), curves.steps, curves.unfinite) == ({2: 0.4, 4: 0.6}, 4, 0)


def test_many_steps_are_means_over_windows() -> None:
    windows = learning.windows([step(i, float(i)) for i in range(1, 2004)], "loss", most=200)
    assert len(windows) == 183  # of 11 steps each, the last of one
    assert (windows[0].first, windows[0].last, windows[0].mean, windows[0].n) == (1, 11, 6.0, 11)
    assert (windows[-1].first, windows[-1].last, windows[-1].mean, windows[-1].n) == (2003, 2003, 2003.0, 1)
    assert sum(w.mean * w.n for w in windows) == pytest.approx(sum(range(1, 2004)))


def test_what_is_not_finite_leaves_a_gap() -> None:
    lines = [step(1, 1.0), step(2, math.nan), step(3, None), step(4, None), step(5, 2.0), step(6, 4.0)]
    windows = learning.windows(lines, "loss", most=3)
    assert [w.n for w in windows] == [1, 0, 2]
    assert windows[0].mean == 1 and math.isnan(windows[1].mean) and windows[2].mean == 3
    (loss, _) = figures(learning.section([run_of("r", log=lines)]))
    assert (
        loss.caption
        == "Loss of the batches. 6 steps; each point is one step; 3 steps without a finite loss are left out."
    )


def test_the_curve_of_the_loss_is_what_is_drawn() -> None:
    log = [step(i, 4.0 - i) for i in range(1, 4)]
    loss, accuracy = figures(learning.section([run_of("r", log=log)]))
    (curve,) = [line for line in paths(loss, f"stroke: {PALETTE[0]}") if len(line) == 3 and line[0][0] != line[1][0]]
    x, y = zip(*curve, strict=True)
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.02)
    assert y[1] - y[0] == pytest.approx(y[2] - y[1], abs=0.02) and y[0] < y[2]  # the loss falls: downwards
    assert (loss.title, accuracy.title) == ("Loss of r", "Accuracy of r")
    assert "validation" not in " ".join(texts(accuracy))


def test_runs_share_figures_and_each_is_named() -> None:
    runs = [run_of(f"run_{i}", log=[step(1, 1.0 + i), step(2, 0.5), epoch(2, 0.5)]) for i in range(8)]
    found = figures(learning.section(runs))
    assert [figure.title for figure in found] == [
        "Loss of 6 runs",
        "Accuracy of 6 runs",
        "Loss of 2 runs",
        "Accuracy of 2 runs",
    ]
    assert {f"run_{i}" for i in range(6)} <= set(texts(found[0]))
    assert {"run_7, training", "run_7, validation"} <= set(texts(found[3]))
    assert len({figure.name for figure in found}) == 4


def test_runs_without_a_loop_have_no_curves() -> None:
    assert (
        learning.section([run_of("r"), run_of("s", log=[{"error": "the loss is nan", "step": 1, "epoch": 1}])]) is None
    )


def shot_rows() -> list[ResultRow]:
    """Two methods, three numbers of shots, three seeds, and zero-shot."""
    rows = [
        row(run=f"{m}{k}{s}", method=m, shots=k, seed=s, suite="few-shot", cell=f"{k}-shot", value=v + 0.01 * (s - 2))
        for m, base in (("coop", 0.5), ("bloom", 0.6))
        for k, v in ((1, base), (4, base + 0.1), (16, base + 0.2))
        for s in (1, 2, 3)
    ]
    return [*rows, row(run="z", method="zeroshot", shots=None, seed=None, suite="few-shot", cell="0-shot", value=0.45)]


def test_few_shot_curves_by_hand() -> None:
    (curves,) = few_shot.curves_of(shot_rows()).values()
    assert [(curve.label, list(curve.points)) for curve in curves] == [
        ("coop", [1, 4, 16]),
        ("bloom", [1, 4, 16]),
        ("zeroshot", []),
    ]
    assert [seeds.mean for seeds in curves[1].points.values()] == pytest.approx([0.6, 0.7, 0.8])
    assert [seeds.std for seeds in curves[0].points.values()] == pytest.approx([0.01] * 3)
    assert curves[2].level is not None and curves[2].level.mean == 0.45
    (figure,) = figures(few_shot.section([run_of("all", shot_rows())]))
    assert {"1", "4", "16", "coop", "bloom", "zeroshot"} <= set(texts(figure))
    assert figure.caption.startswith("n = 100 test images; 3 seeds at each point; points are means, bars the sample")


def test_accuracies_serve_where_the_suite_was_not_measured() -> None:
    rows = [row(run=f"r{k}", shots=k, value=0.5) for k in (1, 2)]
    assert len(figures(few_shot.section([run_of("r", rows)]))) == 1
    assert few_shot.section([run_of("r", rows[:1])]) is None


def test_accuracies_fill_what_the_suite_lacks() -> None:
    """One method was measured by the suite, another by accuracy alone: both have a curve, no number counts twice."""
    rows = [
        row(run=f"b{k}{s}", method="plot", shots=k, seed=s, value=0.1 * k + s / 100) for k in (1, 4) for s in (1, 2)
    ]
    rows += [row(run=f"coop{k}{s}", shots=k, seed=s, value=0.9) for k in (1, 4) for s in (1, 2)]
    (curves,) = few_shot.curves_of([*shot_rows(), *rows]).values()
    found = {curve.label: {k: (s.mean, len(s.values)) for k, s in curve.points.items()} for curve in curves}
    assert found["plot"] == {1: (pytest.approx(0.115), 2), 4: (pytest.approx(0.415), 2)}
    assert found["coop"] == {k: (pytest.approx(v), 3) for k, v in ((1, 0.5), (4, 0.6), (16, 0.7))}


def test_runs_with_long_names_are_told_apart() -> None:
    """Names that differ in their middle alone, as those of a sweep do."""
    names = [f"coop-a-data-set-with-a-name-rn50-{shots}shot-seed1" for shots in (1, 4)]
    found = figures(learning.section([run_of(name, log=[step(1, 1.0), step(2, 0.5)]) for name in names]))
    for figure in found:
        said = [text for text in texts(figure) if text.startswith("coop")]
        assert len(said) == len(set(said)) == 2
        assert all(len(text) <= 42 for text in said)


def halves_rows(*, new: bool = True) -> list[ResultRow]:
    """Two seeds; one of them has no accuracy on new classes."""
    values = {("base", 1): 0.8, ("base", 2): 0.9, ("new", 1): 0.6}
    rows = [row(run=f"r{s}", seed=s, suite="base-to-new", cell=half, value=v, n=50) for (half, s), v in values.items()]
    return rows if new else rows[:2]


def test_halves_by_hand() -> None:
    ((half,),) = base_new.halves(halves_rows()).values()
    bars = half.bars()
    assert bars["base"].value == pytest.approx(0.85) and bars["base"].std == pytest.approx(0.1 / math.sqrt(2))
    assert (bars["new"].value, bars["new"].std) == (0.6, None)
    assert bars["harmonic mean"].value == pytest.approx(2 * 0.8 * 0.6 / 1.4)  # of the run that has both
    (figure,) = figures(base_new.section([run_of("r", halves_rows())]))
    assert {"base", "new", "harmonic mean", "85.0", "60.0", "68.6"} <= set(texts(figure))
    assert "n images: base 50, new 50; 1 to 2 seeds" in figure.caption


def test_without_new_classes_there_is_no_harmonic_mean() -> None:
    ((half,),) = base_new.halves(halves_rows(new=False)).values()
    assert list(half.bars()) == ["base"]
    assert base_new.section([run_of("r", [row()])]) is None


def test_domains_are_drawn_with_their_mean_last() -> None:
    values = {"source": 0.9, "sketch": 0.5, "mean": 0.4, "night": 0.3}
    rows = [
        row(suite="domain-generalization", cell=cell, value=v, enters=("mean",) if cell in ("sketch", "night") else ())
        for cell, v in values.items()
    ]
    (figure,) = figures(domains.section([run_of("r", rows)]))
    groups = [text for text in texts(figure) if text in values]
    assert groups == ["source", "sketch", "night", "mean"]
    heights = [text for text in texts(figure) if "." in text]
    assert heights == ["90.0", "50.0", "30.0", "40.0"]
    assert figure.caption.endswith("Mean: plain mean over sketch, night.")
    bars = [bar for bar in paths(figure, f"stroke: {PALETTE[0]}") if len(bar) in (4, 5)]
    tall = [max(y for _, y in bar) - min(y for _, y in bar) for bar in bars][:4]
    assert [height / tall[0] for height in tall] == pytest.approx([1, 5 / 9, 3 / 9, 4 / 9], abs=2e-3)


def test_other_data_sets_have_a_figure_of_their_own() -> None:
    rows = [row(suite=suite, cell="x", value=0.5) for suite in ("domain-generalization", "cross-dataset")]
    found = figures(domains.section([run_of("r", rows)]))
    assert [figure.title.partition(":")[0] for figure in found] == ["Other domains", "Other data sets"]
    assert domains.section([run_of("r", [row()])]) is None

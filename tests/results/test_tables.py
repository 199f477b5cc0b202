"""Tables: numbers worked out by hand, and what people are told about missing ones."""

from __future__ import annotations

import statistics

import pytest
from result_rows import row

from vlmprompt.results.harmonic import h, h_of_means, mean_of_h
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import EVERYTHING
from vlmprompt.results.tables import SummaryTable, summarise


def cells(table: SummaryTable) -> dict[str, dict[str, str]]:
    """Row label -> header -> text."""
    return {" ".join(r[: table.labels]): dict(zip(table.columns, r, strict=True)) for r in table.rows}


def halves(base: float, new: float, **more: object) -> list[ResultRow]:
    """The rows of the base-to-new suite."""
    values = [("base", "top1", base), ("new", "top1", new)]
    values += [("h", "h_of_means", h(base, new)), ("h", "mean_of_h", h(base, new))]
    return [row(suite="base-to-new", cell=c, metric=m, value=v, **more) for c, m, v in values]


# CoCoOp as DUAL-PT's Table 1 prints it: base and new accuracy of eleven data sets.
COCOOP = {
    "imagenet": (68.30, 62.80),
    "caltech101": (94.35, 89.77),
    "oxford_pets": (92.40, 96.07),
    "stanford_cars": (63.63, 64.50),
    "oxford_flowers": (89.43, 67.60),
    "food101": (83.40, 83.60),
    "fgvc_aircraft": (22.87, 16.17),
    "sun397": (74.37, 73.40),
    "dtd": (71.83, 46.37),
    "eurosat": (88.50, 34.47),
    "ucf101": (77.00, 66.30),
}


def test_published_rows_of_both_conventions() -> None:
    base, new = zip(*COCOOP.values(), strict=True)
    assert round(mean_of_h(base, new), 2) == 67.84  # what DUAL-PT prints as the average
    assert round(h_of_means(base, new), 2) == 68.95  # what the same accuracies give as CoCoOp averages
    assert round(h(80.47, 71.69), 2) == 75.83  # CoCoOp's own table


def test_published_rows_as_a_table() -> None:
    rows = [r for name, (b, n) in COCOOP.items() for r in halves(b / 100, n / 100, dataset=name, run=name)]
    *_, average = summarise(rows)
    assert cells(average)["coop 16"]["h of means"] == "68.95"
    assert cells(average)["coop 16"]["mean of h"] == "67.84"


def test_h_by_hand() -> None:
    assert h(0.0, 0.0) == 0.0
    assert h(0.5, 0.5) == 0.5
    # H(.8,.4) = .64/1.2 = .5333, H(.6,.6) = .6; averages .7 and .5 give .7/1.2 = .5833.
    assert mean_of_h([0.8, 0.6], [0.4, 0.6]) == pytest.approx(0.56667, abs=1e-5)
    assert h_of_means([0.8, 0.6], [0.4, 0.6]) == pytest.approx(0.58333, abs=1e-5)


def test_the_average_of_h_is_never_above_h_of_the_averages() -> None:
    base, new = [0.9, 0.3, 0.55], [0.2, 0.8, 0.5]
    assert mean_of_h(base, new) <= h_of_means(base, new)
    assert mean_of_h(base[:1], new[:1]) == h_of_means(base[:1], new[:1]) == statistics.harmonic_mean([0.9, 0.2])
    with pytest.raises(ValueError, match="shorter"):
        mean_of_h([0.1, 0.2], [0.1])


def test_one_seed_never_prints_a_spread() -> None:
    (table,) = summarise([row(value=0.61234)])
    assert table.title == "accuracy on photos, ViT-B-32-quickgelu (%)"
    assert table.columns == ("method", "shots", "top1")
    assert table.rows == (("coop", "16", "61.23"),)
    assert "±" not in str(table)


def test_seeds_become_mean_and_sample_deviation() -> None:
    values = {1: 0.60, 2: 0.62, 3: 0.67}
    (table,) = summarise([row(run=f"s{s}", seed=s, value=v) for s, v in values.items()])
    # mean .63, deviations -.03 -.01 .04: sqrt(.0026 / 2) = .03606
    assert cells(table) == {"coop 16 3": {"method": "coop", "shots": "16", "seeds": "3", "top1": "63.00 ± 3.61"}}
    assert "ddof=1" in table.caption
    assert "3" in table.rows[0][2]


def test_a_seed_measured_again_is_one_seed() -> None:
    (table,) = summarise([row(value=0.1, key="old"), row(value=0.7, key="new")])
    assert table.rows == (("coop", "16", "70.00"),)


def test_a_failed_seed_is_left_out_and_told() -> None:
    rows = [row(run=f"s{s}", seed=s, value=v) for s, v in {1: 0.6, 2: 0.8}.items()]
    rows.append(row(run="s3", seed=3, value=None, status="failed", note="out of memory"))
    (table,) = summarise(rows)
    assert cells(table)["coop 16 3"]["top1"] == "70.00 ± 14.14 [1]"
    assert table.footnotes == ("failed: out of memory",)


def test_what_does_not_apply_says_why_once() -> None:
    rows = halves(0.8, 0.6)
    reason = {"value": None, "status": "not_applicable", "note": "no new classes"}
    for cell, metric in [("new", "top1"), ("h", "h_of_means"), ("h", "mean_of_h")]:
        rows.append(row(suite="base-to-new", method="linear_probe", cell=cell, metric=metric, **reason))
    rows.append(row(suite="base-to-new", method="linear_probe", cell="base", value=0.9))
    (table,) = summarise(rows)
    probe = cells(table)["linear_probe 16"]
    assert [probe[c] for c in table.columns[2:]] == ["90.00", "n/a [1]", "n/a [1]", "n/a [1]"]
    assert table.footnotes == ("not applicable: no new classes",)


def test_a_training_that_failed_marks_its_row() -> None:
    failure = row(method="bloom", cell=EVERYTHING, metric=EVERYTHING, value=None, status="failed", note="loss is NaN")
    (table,) = summarise([row(), failure])
    assert table.columns == ("method", "shots", "top1")
    assert table.rows == (("coop", "16", "50.00"), ("bloom [1]", "16", "–"))
    assert table.footnotes == ("failed: loss is NaN",)


def test_only_failures_still_make_a_table() -> None:
    (table,) = summarise([row(cell=EVERYTHING, metric=EVERYTHING, value=None, status="failed", note="no memory")])
    assert table.rows == (("coop [1]", "16"),)
    assert table.footnotes == ("failed: no memory",)


def test_h_over_seeds_both_ways() -> None:
    rows = halves(0.8, 0.4, seed=1, run="a") + halves(0.6, 0.6, seed=2, run="b")
    (table,) = summarise(rows)
    coop = cells(table)["coop 16 2"]
    assert coop["base top1"] == "70.00 ± 14.14"
    assert coop["h of means"] == "58.33"  # a number of the averages has no spread of its own
    assert coop["mean of h"] == "56.67 ± 4.71"
    assert "h of means: H of the averaged" in table.caption


def test_h_of_means_takes_runs_that_have_both_halves() -> None:
    rows = halves(0.8, 0.4, seed=1, run="a")
    rows += [row(suite="base-to-new", cell="base", seed=2, run="b", value=0.1)]
    (table,) = summarise(rows)
    assert cells(table)["coop 16 2"]["h of means"] == "53.33"


def test_data_sets_have_tables_of_their_own_and_an_average() -> None:
    rows = halves(0.8, 0.4, dataset="flowers", run="a") + halves(0.6, 0.6, dataset="pets", run="b")
    rows += [row(method="other", suite="base-to-new", cell="base", dataset="pets", value=0.9)]
    flowers, pets, average = summarise(rows)
    assert [t.title.split(",")[0] for t in (flowers, pets)] == ["base-to-new on flowers", "base-to-new on pets"]
    assert cells(average)["coop 16"] == {
        "method": "coop",
        "shots": "16",
        "base top1": "70.00",
        "new top1": "50.00",
        "h of means": "58.33",
        "mean of h": "56.67",
    }
    assert cells(average)["other 16"]["base top1"] == "–"
    assert "2 data sets" in average.caption
    assert "not measured on all" in average.caption


def test_shots_go_down_where_cells_do_not_tell_them() -> None:
    (table,) = summarise([row(shots=k, run=str(k)) for k in (1, 16, None)])
    assert [r[1] for r in table.rows] == ["1", "16", "all"]


def test_a_curve_goes_across_in_order_of_shots() -> None:
    rows = [row(suite="few-shot", shots=k, cell=f"{k}-shot", value=k / 100) for k in (16, 1, 4)]
    rows.append(row(suite="few-shot", method="zeroshot", shots=None, seed=None, cell="0-shot", value=0.4))
    (table,) = summarise(rows)
    assert table.title == "few-shot on photos, ViT-B-32-quickgelu: top1 (%)"
    assert table.columns == ("method", "0-shot", "1-shot", "4-shot", "16-shot")
    assert table.rows == (("coop", "–", "1.00", "4.00", "16.00"), ("zeroshot", "40.00", "–", "–", "–"))


def test_runs_that_differ_in_more_than_the_seed_are_kept_apart() -> None:
    (table,) = summarise([row(run="n_ctx4", value=0.5, key="a"), row(run="n_ctx16", value=0.7, key="b")])
    assert table.columns == ("method", "shots", "run", "top1")
    assert [r[2:] for r in table.rows] == [("n_ctx4", "50.00"), ("n_ctx16", "70.00")]


def test_a_reference_quoted_beside_two_runs_is_one() -> None:
    rows = [row(run=run, method="zeroshot", shots=None, seed=None, key="same") for run in ("a", "b")]
    (table,) = summarise([*rows, row(run="a", key="a"), row(run="b", seed=2, key="b")])
    assert cells(table)["zeroshot – –"]["top1"] == "50.00"


def test_numbers_that_are_no_fractions_are_shown_as_they_are() -> None:
    rows = [row(), row(metric="seconds", value=12.3456, higher_is_better=False)]
    (table,) = summarise(rows)
    assert table.title.endswith("quickgelu")
    assert table.columns[2:] == ("top1 %", "seconds ↓")
    assert table.rows[0][2:] == ("50.00", "12.35")
    assert "↓ lower is better" in table.caption


def test_what_holds_for_every_number_is_said_once() -> None:
    rows = [row(note="random tower weights (seed 0)"), row(metric="top5", note="x; random tower weights (seed 0)")]
    (table,) = summarise(rows)
    assert table.caption == "n = 100 images; random tower weights (seed 0)"


def test_nothing_gives_no_table() -> None:
    assert summarise([]) == []


def test_every_number_has_its_count() -> None:
    """The images behind each column, once where all are the same; nothing where there is no number."""
    rows = [row(cell="sketches", n=40), row(cell="scans", n=12), row(cell="mean", n=52), row(cell="lost", n=None)]
    rows[-1] = rows[-1].model_copy(update={"value": None, "status": "failed"})
    assert summarise(rows)[0].caption == "n (images): sketches 40, scans 12, mean 52"
    assert summarise(rows[:1])[0].caption == "n = 40 images"
    assert summarise([rows[0], row(cell="sketches", n=36, method="zeroshot")])[0].caption == "n = 36 to 40 images"
    assert summarise(rows[-1:])[0].caption == ""

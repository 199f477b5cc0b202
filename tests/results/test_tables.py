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
    assert "h of means: harmonic mean of the averaged base and new accuracy; mean of h: average" in table.caption


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
    assert table.caption == "random tower weights (seed 0)"


def test_nothing_gives_no_table() -> None:
    assert summarise([]) == []


# -- what must not be mixed ---------------------------------------------------------------------------
def test_settings_are_no_seeds() -> None:
    """Two learning rates, two seeds each: two rows of two seeds, told apart by the setting; equal ones stay unsaid."""
    other = {"train.lr": "0.1", "options.n_ctx": "4", "train.epochs": "5"}
    rows = [row(run=f"a{s}", seed=s, value=v, setup={"train.epochs": "5"}) for s, v in {1: 0.70, 2: 0.72}.items()]
    rows += [row(run=f"b{s}", seed=s, value=v, setup=other) for s, v in {1: 0.50, 2: 0.54}.items()]
    (table,) = summarise(rows)
    assert table.columns == ("method", "shots", "lr", "n_ctx", "seeds", "top1")
    assert table.rows == (
        ("coop", "16", "default", "default", "2", "71.00 ± 1.41"),
        ("coop", "16", "0.1", "4", "2", "52.00 ± 2.83"),
    )


def test_a_run_of_one_name_in_two_folders_is_two() -> None:
    (table,) = summarise([row(value=0.7, key="a"), row(value=0.5, key="b", setup={"train.lr": "0.1"})])
    assert [r[2:] for r in table.rows] == [("default", "70.00"), ("0.1", "50.00")]


def test_settings_of_different_methods_are_left_to_the_methods() -> None:
    (table,) = summarise([row(setup={"options.n_ctx": "4"}), row(method="bloom", setup={"options.depth": "9"})])
    assert table.columns == ("method", "shots", "top1")


def test_versions_of_the_code_are_kept_apart() -> None:
    (table,) = summarise([row(run=v, seed=i, key=v, setup={"code": v}) for i, v in enumerate(("acme 1", "acme 2"))])
    assert table.columns == ("method", "shots", "code", "top1")
    assert [r[2] for r in table.rows] == ["acme 1", "acme 2"]


def on(digest: str, spec: str) -> dict[str, str]:
    return {"data": spec, "data digest": digest}


def test_two_data_sets_of_one_name_have_tables_of_their_own() -> None:
    first, second = on("aaa", "folder:a/photos"), on("bbb", "folder:b/photos")
    rows = [row(value=0.75, key="a", setup=first), row(value=0.5556, key="b", run="r2", seed=2, setup=second)]
    here, there, average = summarise(rows)
    assert [t.title.partition(",")[0] for t in (here, there)] == [
        "accuracy on photos (folder:a/photos)",
        "accuracy on photos (folder:b/photos)",
    ]
    assert (here.rows, there.rows) == ((("coop", "16", "75.00"),), (("coop", "16", "55.56"),))
    assert average.title.startswith("accuracy, mean over data sets")


def test_a_data_set_that_changed_in_its_place_is_told_by_its_digest() -> None:
    rows = [row(key=d, run=d, seed=i, setup=on(d, "folder:photos")) for i, d in enumerate(("aaa", "bbb"))]
    # And there is no average: these are not two data sets.
    assert [t.title.partition(",")[0] for t in summarise(rows)] == [
        "accuracy on photos (aaa)",
        "accuracy on photos (bbb)",
    ]


def test_one_data_set_under_two_specs_is_one() -> None:
    rows = [row(key=s, run=s, seed=i, setup=on("aaa", s)) for i, s in enumerate(("folder:photos", "folder:/x/photos"))]
    (table,) = summarise(rows)
    assert table.columns == ("method", "shots", "seeds", "top1")


def test_towers_of_one_name_and_other_weights_have_tables_of_their_own() -> None:
    rows = [row(key=d, run=d, setup={"backbone digest": d}) for d in ("aaa", "bbb")]
    assert [t.title for t in summarise(rows)] == [
        "accuracy on photos, ViT-B-32-quickgelu (aaa) (%)",
        "accuracy on photos, ViT-B-32-quickgelu (bbb) (%)",
    ]


def test_a_training_that_failed_stays_with_its_seeds() -> None:
    """What failed before the data were read knows no digest."""
    rows = [row(run=f"s{s}", seed=s, setup=on("aaa", "folder:photos")) for s in (1, 2)]
    failure = {"value": None, "status": "failed", "note": "no memory", "setup": {"data": "folder:photos"}}
    rows.append(row(run="s3", seed=3, cell=EVERYTHING, metric=EVERYTHING, **failure))
    (table,) = summarise(rows)
    assert table.rows == (("coop [1]", "16", "2", "50.00 ± 0.00"),)


# -- means -------------------------------------------------------------------------------------------
def domains(*values: float | None, first: int = 0, seed: int = 1) -> list[ResultRow]:
    """What one call stores: its domains, and their mean."""
    names = tuple(f"d{first + i}" for i in range(len(values)))
    own = {"suite": "domain-generalization", "seed": seed, "run": f"s{seed}"}
    failed = {"status": "failed", "note": "gone"}
    rows = [
        row(cell=n, value=v, n=10, enters=("mean",), **own, **({} if v is not None else failed))
        for n, v in zip(names, values, strict=True)
    ]
    known = [v for v in values if v is not None]
    if len(known) < len(values):
        return [*rows, row(cell="mean", value=None, **own, **failed)]
    return [*rows, row(cell="mean", value=sum(known) / len(known), n=10 * len(known), of=names, **own)]


def test_a_mean_is_that_of_the_columns_beside_it() -> None:
    """Two calls with other domains: each stored the mean of its own."""
    (table,) = summarise([*domains(0.9, 0.8), *domains(0.4, first=2)])
    shown = cells(table)["coop 16"]
    assert {name: shown[name] for name in ("d0", "d1", "d2", "mean")} == {
        "d0": "90.00",
        "d1": "80.00",
        "d2": "40.00",
        "mean": "70.00",
    }
    assert table.columns[-1] == "mean"
    assert table.images == ("images", "", "10", "10", "10", "mean of 3")


def test_a_mean_of_what_has_no_number_has_none() -> None:
    rows = [*domains(0.9, 0.8), *domains(None, first=1)]
    (table,) = summarise([*rows, *domains(0.4, first=2)])
    assert cells(table)["coop 16"]["mean"] == "failed [1]"
    assert table.footnotes == ("failed: gone",)


def test_means_of_scores_are_apart_and_need_not_be_stored() -> None:
    """One set a call: none of them had a mean to store."""
    values = [("a", "mcm", 0.5), ("b", "mcm", 0.7), ("a", "msp", 0.1), ("b", "msp", 0.3)]
    rows = [row(suite="ood", metric="auroc", cell=f"{c}/{s}", value=v, enters=("mean",)) for c, s, v in values]
    (table,) = summarise(rows)
    assert [cells(table)[f"coop 16 {s}"]["mean"] for s in ("mcm", "msp")] == ["60.00", "20.00"]
    (alone,) = summarise(rows[::2])
    assert alone.columns == ("method", "shots", "score", "auroc")


def test_a_mean_over_seeds_is_that_of_their_means() -> None:
    (table,) = summarise([*domains(0.9, 0.7, seed=1), *domains(0.5, 0.7, seed=2)])
    assert cells(table)["coop 16 2"]["mean"] == "70.00 ± 14.14"


# -- what a table says of itself ---------------------------------------------------------------------
def test_one_cell_is_named_in_the_title() -> None:
    rows = [row(suite="ood", cell="textures/mcm", metric=m) for m in ("fpr95_id_pos", "auroc")]
    (table,) = summarise(rows)
    assert table.title == "ood on photos, ViT-B-32-quickgelu: textures (%)"
    assert table.columns == ("method", "shots", "score", "fpr95 id pos", "auroc")
    (table,) = summarise([row(suite="ood", cell="test/mcm", metric=m) for m in ("fpr95_id_pos", "auroc")])
    assert table.title.endswith(": test (%)")


def test_missing_runs_are_missing_not_impossible() -> None:
    reason = "no run with 1 shots"
    rows = [row(suite="few-shot", cell="16-shot"), row(suite="few-shot", shots=1, cell="1-shot", value=None)]
    rows[1] = rows[1].model_copy(update={"status": "missing", "note": reason})
    (table,) = summarise(rows)
    assert cells(table)["coop"]["1-shot"] == "missing [1]"
    assert table.footnotes == (f"missing: {reason}",)


def test_images_behind_numbers() -> None:
    rows = [row(n=960), row(method="other", n=40), row(metric="top5", n=None)]
    (table,) = summarise(rows)
    assert table.images == ("images", "", "40 to 960", "–")
    (unknown,) = summarise([row(n=None)])
    assert unknown.images == ()


def test_an_average_counts_the_images_of_all_data_sets() -> None:
    *_, average = summarise([row(dataset="a", key="a", n=1000), row(dataset="b", key="b", n=234)])
    assert average.images == ("images", "", "1,234")


def test_a_row_measured_in_the_best_state_is_marked() -> None:
    chosen = [row(method="coop", seed=seed, setup={"train.keep": "best"}) for seed in (1, 2)]
    (table,) = summarise([*chosen, row(method="zeroshot", shots=None, seed=None)])
    assert [r[0] for r in table.rows] == ["coop [1]", "zeroshot"]
    assert table.footnotes == ("measured in the state that was best on the validation images (keep = best)",)
    (plain,) = summarise([row(method="coop")])
    assert plain.footnotes == ()


def test_a_reference_that_two_workers_measured_beside_runs_of_their_own_has_one_mean() -> None:
    same = {"method": "zeroshot", "suite": "domains", "seed": None, "shots": None, "listing": "a"}
    measured = (("r1", "v2", 0.6), ("r1", "sketch", 0.4), ("r2", "night", 0.2))
    rows = [row(run=run, cell=cell, value=value, enters=("mean",), **same) for run, cell, value in measured]
    rows.append(row(run="r2", cell="mean", value=0.4, n=None, of=("v2", "sketch", "night"), **same))
    (table,) = summarise(rows)
    assert table.rows == (("zeroshot", "60.00", "40.00", "20.00", "40.00"),)

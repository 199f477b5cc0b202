"""Numbers over seeds, by hand."""

from __future__ import annotations

import pytest
from result_rows import row

from vlmprompt.results.seeds import over_seeds


def test_seeds_of_one_thing_are_one() -> None:
    rows = [row(run=f"r{seed}", seed=seed, value=value) for seed, value in ((1, 0.5), (2, 0.7), (3, 0.6))]
    rows += [row(run="zero", method="zeroshot", seed=None, shots=None, value=0.4)]
    rows += [row(run="r4", seed=4, value=None, status="failed"), row(suite="ood", run="r1", value=0.9)]
    first, second = over_seeds(rows, "accuracy", ["top1"])
    assert (first.label, first.shots, first.cell, first.images) == ("coop", "16", "test", (100, 100, 100))
    assert first.values == {("r1", 1): 0.5, ("r2", 2): 0.7, ("r3", 3): 0.6}
    assert first.mean == pytest.approx(0.6) and first.std == pytest.approx(0.1)
    assert (second.label, second.shots, second.std, second.values) == ("zeroshot", "–", None, {("zero", None): 0.4})


def test_what_differs_in_a_setting_is_no_seed() -> None:
    rows = [row(run=f"r{lr}{seed}", seed=seed, setup={"train.lr": lr}) for lr in ("0.1", "0.2") for seed in (1, 2)]
    found = over_seeds(rows, "accuracy", ["top1"])
    assert [(one.label, len(one.values)) for one in found] == [("coop, lr 0.1", 2), ("coop, lr 0.2", 2)]


def test_runs_of_one_seed_stand_by_themselves() -> None:
    found = over_seeds([row(run="a", value=0.1), row(run="b", value=0.2)], "accuracy", ["top1"])
    assert [(one.label, one.mean) for one in found] == [("coop, run a", 0.1), ("coop, run b", 0.2)]


def test_cells_and_scores_are_told_apart() -> None:
    rows = [row(suite="ood", cell=f"{name}/mcm", metric="auroc", value=0.5) for name in ("near", "far")]
    assert [(one.cell, one.score) for one in over_seeds(rows, "ood", ["auroc"])] == [("near", "mcm"), ("far", "mcm")]


def test_nothing() -> None:
    assert over_seeds([], "accuracy", ["top1"]) == []
    assert over_seeds([row(value=None, status="missing")], "accuracy", ["top1"]) == []

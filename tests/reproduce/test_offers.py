"""Mistakes in recipes are found before the first run, not in the table after the last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.training.material import make_photos, runtime
from vlmprompt.cli.main import main
from vlmprompt.errors import InputError, UsageError
from vlmprompt.evaluation import sweep_work
from vlmprompt.reproduce.configuration import require_known
from vlmprompt.reproduce.offers import require_columns
from vlmprompt.reproduce.recipe import Recipe, load_recipe
from vlmprompt.reproduce.run import reproduce
from vlmprompt.results.overview import Pick, overview
from vlmprompt.results.rows import ResultRow

pytestmark = pytest.mark.usefixtures("tiny_spec")
GRID = {"methods": ["coop"], "data": ["folder:photos"], "backbone": "tiny-vit", "shots": [2], "suites": ["accuracy"]}
COLUMN = {"header": "all", "suite": "accuracy", "cell": "test", "metric": "top1"}


@pytest.fixture(autouse=True)
def _photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "photos", splits={"train": 3, "test": 2})


def recipe(*grids: dict[str, Any], column: dict[str, Any] | None = None) -> Recipe:
    content = {"title": "t", "about": "a", "grid": [GRID | grid for grid in grids or ({},)]}
    return Recipe.model_validate(content | {"column": [COLUMN | (column or {})]})


@pytest.mark.parametrize(
    ("column", "missing", "hint"),
    [
        ({"suite": "acuracy"}, "suite 'acuracy'", "suite: did you mean 'accuracy'?"),
        ({"data": "photo"}, "data 'photo' of suite accuracy", "data: did you mean 'photos'?"),
        ({"shots": 4}, "shots 4 of suite accuracy", "shots: known: 2"),
        ({"cell": "tst"}, "cell 'tst' of suite accuracy", "cell: did you mean 'test'?"),
        ({"metric": "top_1"}, "metric 'top_1' of suite accuracy", "metric: did you mean 'top1'?"),
    ],
)
def test_a_column_that_shows_nothing(column: dict[str, Any], missing: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        require_columns(recipe(column=column | {"header": "mine"}), runtime(tmp_path))
    assert caught.value.message == f"column 'mine' shows nothing: no grid of the recipe measures {missing}"
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("grid", "column"),
    [
        ({}, {"data": "photos", "shots": 2, "metric": "ece_15"}),
        ({"setting": "base-to-new"}, {"cell": "test-base"}),
        ({"suites": ["accuracy", "few-shot"], "shots": [2, 4]}, {"suite": "few-shot", "cell": "4-shot", "shots": 4}),
        ({"suites": ["accuracy", "few-shot"]}, {"suite": "few-shot", "cell": "0-shot"}),  # of zero-shot CLIP
        # What is not there cannot be asked: its data are skipped, and said to be.
        ({"data": ["folder:photos", "folder:gone"]}, {"data": "gone", "cell": "anything"}),
    ],
)
def test_a_column_of_something_measured(grid: dict[str, Any], column: dict[str, Any], tmp_path: Path) -> None:
    require_columns(recipe(grid, column=column), runtime(tmp_path))


@pytest.mark.parametrize(
    "name", ["doodles-full", "doodles-short", "doodles-adapters", "gallop-ood", "dualpt-fewshot-rn50"]
)
def test_columns_of_shipped_recipes(name: str, tmp_path: Path) -> None:
    require_columns(load_recipe(name), runtime(tmp_path))


OOD = {"data": ["doodles-animals"], "backbone": "doodle-clip", "suites": ["ood"]}
WORDS = {"negatives": "demo", "groups": 2}


def test_a_score_that_needs_options_is_measured_where_a_grid_gives_them(tmp_path: Path) -> None:
    column = {"suite": "ood", "cell": "mean/neglabel", "metric": "auroc"}
    require_columns(recipe(OOD | {"scores": {"neglabel": WORDS}}, column=column), runtime(tmp_path))
    require_columns(recipe(OOD, OOD | {"scores": {"neglabel": WORDS}}, column=column), runtime(tmp_path))
    with pytest.raises(InputError, match="no grid of the recipe measures cell 'mean/neglabel' of suite ood"):
        require_columns(recipe(OOD, column=column), runtime(tmp_path))


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"neglabl": WORDS}, "unknown OOD score 'neglabl'"),
        ({"neglabel": {"groups": 2}}, "score 'neglabel' needs option negatives"),
        ({"neglabel": WORDS | {"group": 2}}, "score 'neglabel' has no option 'group'"),
    ],
)
def test_wrong_options_of_scores_are_found_first(scores: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        require_known(recipe(OOD | {"scores": scores}), tmp_path)


def test_the_options_of_scores_reach_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    monkeypatch.setattr(
        "vlmprompt.reproduce.run.carry_out",
        lambda sweeps, *_, **__: given.extend(one.plan.measured_on["score_options"] for one in sweeps),
    )
    reproduce(recipe(OOD, OOD | {"scores": {"neglabel": WORDS}}), runtime(tmp_path), out=tmp_path / "out", seeds=[1])
    assert given == [{}, {"neglabel": WORDS}]


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_nothing_is_trained_before_columns_are_held_against_the_grid(
    more: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_work, "train", lambda *a, **k: pytest.fail("trained"))
    Path("mine.toml").write_text(
        'title = "t"\nabout = "a"\n[[grid]]\nmethods = ["coop"]\ndata = ["folder:photos"]\nbackbone = "tiny-vit"\n'
        'suites = ["accuracy"]\n[[column]]\nheader = "H"\nsuite = "base-to-new"\ncell = "h"\n'
    )
    assert main(["reproduce", "mine.toml", *more]) == 3
    assert "column 'H' shows nothing: no grid of the recipe measures suite 'base-to-new'" in capsys.readouterr().err
    assert not Path("reproduce").exists()


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"suites": ["acuracy"]}, "unknown suite 'acuracy'"),
        (
            {"settings": {"n_ctx": 4}},
            "two grids of the recipe have different runs named coop-photos-tiny-vit-2shot",
        ),
        ({"label": "b", "settings": {"precision": "bf16"}}, "one precision, this one would need bf16 and fp32"),
    ],
)
def test_a_second_grid_that_cannot_run(second: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        reproduce(recipe({}, second), runtime(tmp_path), out=tmp_path / "out", seeds=[1])
    assert not (tmp_path / "out").exists()


def test_methods_of_columns_are_known() -> None:
    with pytest.raises(ValueError, match="method 'cop' of a column is none of the recipe's"):
        recipe(column={"methods": ["cop"]})


def test_a_table_without_numbers_is_empty() -> None:
    """It used to fail, with words of numpy."""
    content = {"run": "r", "method": "coop", "dataset": "d", "backbone": "b", "shots": 1, "seed": 1, "suite": "s"}
    more = {"suite_version": 1, "cell": "test", "metric": "top1", "value": 0.5, "n": 2}
    rows = [ResultRow.model_validate(content | more)]
    for found in (rows, []):
        table = overview(found, [Pick("H", "base-to-new", "h", "top1")], "t")
        assert (table.columns, table.rows) == (("method", "H"), ())

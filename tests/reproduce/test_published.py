"""The papers' figures in the shipped recipes: whole, consistent, and beside cells that exist."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from vlmprompt.data import ood_sets
from vlmprompt.data.coop.facts import benchmarks
from vlmprompt.data.load import short_names
from vlmprompt.reproduce.compare import parts_of, published_figures, recomputed
from vlmprompt.reproduce.missing import benchmark_of
from vlmprompt.reproduce.recipe import Column, Recipe, load_recipe, recipe_names

PAPERS = [name for name in recipe_names() if load_recipe(name).compares]


def printed_means(recipe: Recipe) -> Iterator[tuple[str, str, float, float, float, bool]]:
    """Method, header, printed mean, mean of the printed figures, unit of the last digit, marked as a misprint."""
    for spec in recipe.published:
        for method, figures in spec.rows.items():
            for header, value in zip(spec.columns, figures, strict=True):
                mean = recomputed(recipe, spec, method, header)
                if value != "" and mean is not None:
                    yield method, header, value, mean, 10**-spec.decimals, header in spec.misprints.get(method, ())


@pytest.mark.parametrize("name", PAPERS)
def test_printed_means_are_those_of_the_printed_figures_or_marked(name: str) -> None:
    for method, header, printed, mean, unit, marked in printed_means(load_recipe(name)):
        # Both the mean and what it is taken over were rounded: half a unit each.
        assert (abs(printed - mean) > 1.01 * unit) == marked, (method, header, printed, mean)


def test_the_misprints_that_are_known() -> None:
    found = {
        (name, method, header): round(mean, 2)
        for name in PAPERS
        for method, header, _, mean, _, marked in printed_means(load_recipe(name))
        if marked
    }
    assert found == {
        ("gallop-table1", "zeroshot", "average"): 64.77,
        ("codualpt-base-to-new", "dual_pt", "average new"): 66.25,  # 728.8 / 11 = 66.2545
        ("codualpt-base-to-new", "dual_pt", "average H, mean of H"): 70.03,
    }


@pytest.mark.parametrize("name", PAPERS)
def test_columns_show_cells_that_runs_have(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.paper and recipe.departures
    names = {short for spec in recipe.grid for short in short_names(spec.data).values()}
    assert len({column.header for column in recipe.columns}) == len(recipe.columns)
    for column in recipe.columns:
        if column.suite:
            assert column.data is None or column.data in names
            assert column.data is not None or len(names) == 1
            assert column.cell in cells(recipe, column)
        else:
            assert column.harmonic_of or parts_of(column, recipe.columns)


def cells(recipe: Recipe, column: Column) -> set[str]:
    """What the suite of a column measures on the recipe's data."""
    data = {spec for grid in recipe.grid for spec in grid.data}
    beside = {kind: cell_names(data, kind) for kind in ("domains", "targets")}
    if column.suite.startswith("ood:"):
        sets = [one.name for one in ood_sets.benchmark(column.suite.removeprefix("ood:")).sets]
        return {f"{one}/{score}" for one in (*sets, "mean") for score in ("mcm", "l-mcm", "gl-mcm")}
    return {
        "accuracy": {"test"},
        "base-to-new": {"base", "new", "h"},
        "domain-generalization": {"source", "mean", *beside["domains"]},
        "cross-dataset": {"mean", *beside["targets"]},
        "parameters": {"trained"},
    }[column.suite]


def cell_names(data: set[str], kind: str) -> set[str]:
    facts = [benchmark_of(spec) for spec in data]
    return {spec.removeprefix("coop:") for one in facts if one is not None for spec in one.companions.get(kind, ())}


@pytest.mark.parametrize("name", PAPERS)
def test_data_of_the_papers_are_benchmarks(name: str) -> None:
    known = {one.spec for one in benchmarks().values()}
    assert {data for spec in load_recipe(name).grid for data in spec.data} <= known


def test_figures_keep_their_decimals() -> None:
    assert published_figures(load_recipe("codualpt-base-to-new"))["cocoop", "average base"].text == "75.10"
    assert published_figures(load_recipe("gallop-table1"))["gallop", "dtd"].text == "75.5"
    bloom = published_figures(load_recipe("bloom-base-to-new"))
    assert bloom["bloom", "average H, mean of H"].text == "79.68"
    assert ("bloom", "average H, H of means") not in bloom  # printed in the other convention


def test_what_recipes_with_figures_must_say() -> None:
    base = {
        "title": "t",
        "about": "a",
        "grid": [{"methods": ["coop"], "data": ["coop:dtd"], "suites": ["accuracy"]}],
        "column": [{"header": "dtd", "suite": "accuracy", "cell": "test"}],
    }
    figure = {"table": "Table 1", "columns": ["dtd"], "rows": {"coop": [1.0]}}
    assert Recipe.model_validate({**base, "published": [figure]}).compares
    for change, message in (
        ({"columns": ["dtd", "x"]}, "1 figures for 2 columns"),
        ({"columns": ["x"]}, "column 'x' of Table 1"),
        ({"rows": {"maple": [1.0]}}, "method 'maple' of Table 1"),
    ):
        with pytest.raises(ValueError, match=message):
            Recipe.model_validate({**base, "published": [figure | change]})
    with pytest.raises(ValueError, match="needs suite and cell, or mean_of, or harmonic_of"):
        Recipe.model_validate({**base, "column": [{"header": "x"}]})
    with pytest.raises(ValueError, match="only beside published figures"):
        Recipe.model_validate({**base, "column": [*base["column"], {"header": "mean", "mean_of": "*"}]})  # type: ignore[misc]


def test_the_recipe_of_the_docs_is_one(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/reproduce.md").read_text(encoding="utf-8")
    block = re.search(r"^    title = .*?(?=^\S)", text, re.MULTILINE | re.DOTALL)
    assert block
    path = tmp_path / "own.toml"
    path.write_text(textwrap.dedent(block[0]), encoding="utf-8")
    recipe = load_recipe(str(path))
    assert [column.header for column in recipe.columns] == ["dtd", "eurosat", "average"]
    table1 = published_figures(load_recipe("gallop-table1"))
    assert published_figures(recipe).items() <= table1.items()

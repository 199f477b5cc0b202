"""The report of a recipe with published figures, against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

from tests.reproduce.test_recipes import row
from vlmprompt.reproduce.missing import Missing, Present
from vlmprompt.reproduce.recipe import Recipe, load_recipe
from vlmprompt.reproduce.report import report
from vlmprompt.results.rows import ResultRow

NOTHING_MISSING = Present({}, ())


def recipe(**changes: Any) -> Recipe:
    """Two data sets, base to new, with averages of both kinds; the printed mean of coop is wrong."""
    names = ["dtd", "eurosat"]
    grid = {"methods": ["coop", "maple"], "data": [f"coop:{n}" for n in names], "suites": ["base-to-new"]}
    return Recipe.model_validate(
        {
            "title": "Small",
            "about": "a",
            "note": "for the test",
            "paper": "A paper",
            "departures": ["the seeds"],
            "grid": [grid | {"setting": "base-to-new"}],
            "column": [
                {"header": "{} base", "each": names, "data": "{}", "suite": "base-to-new", "cell": "base"},
                {"header": "{} new", "each": names, "data": "{}", "suite": "base-to-new", "cell": "new"},
                {"header": "average base", "mean_of": "* base"},
                {"header": "dtd H", "harmonic_of": ["dtd base", "dtd new"]},
            ],
            "published": [
                {
                    "table": "Table 9",
                    "columns": ["dtd base", "eurosat base", "average base", "dtd new"],
                    "rows": {"coop": [60.0, 80.0, 75.0, ""], "maple": [61.25, 80.5, 70.88, 50.0]},
                    "misprints": {"coop": ["average base"]},
                }
            ],
            "gain": [{"of": "maple", "over": "coop", "column": "dtd base", "value": 1.5, "table": "section 4"}],
        }
        | changes
    )


ROWS = [
    row("coop", "base-to-new", "base", 0.59, dataset="dtd"),
    row("coop", "base-to-new", "base", 0.62, dataset="dtd", seed=2),
    row("coop", "base-to-new", "base", 0.79, dataset="eurosat"),
    row("coop", "base-to-new", "new", 0.40, dataset="dtd"),
    row("maple", "base-to-new", "base", 0.62, dataset="dtd"),
    row("maple", "base-to-new", "new", None, dataset="dtd", status="failed", note="no memory"),
]


def lines(rows: list[ResultRow], present: Present = NOTHING_MISSING) -> dict[tuple[str, str], tuple[str, ...]]:
    table = report(recipe(), rows, present).tables[0]
    return {(cells[0], cells[1]): cells[2:] for cells in table.rows}


def test_differences_by_hand() -> None:
    found = lines(ROWS)
    # dtd: mean(59, 62) = 60.5, sd = 3/sqrt(2) = 2.12; eurosat 79; their mean 69.75 against (60 + 80)/2 = 70
    assert found["coop", "dtd base"] == ("2", "10", "60.50 ± 2.12", "60.00", "+0.50")
    assert found["coop", "eurosat base"] == ("1", "10", "79.00", "80.00", "-1.00")
    assert found["coop", "average base"] == ("1", "mean of 2", "69.75", "75.00 [1]", "-0.25")
    assert found["coop", "dtd new"] == ("1", "10", "40.00", "–", "–")
    assert found["coop", "dtd H"] == ("1", "–", "48.16", "–", "–")  # 2 * 60.5 * 40 / 100.5
    assert found["maple", "dtd base"] == ("1", "10", "62.00", "61.25", "+0.75")
    assert found["maple", "eurosat base"] == ("–", "–", "–", "80.50", "–")
    assert found["maple", "average base"] == ("–", "–", "–", "70.88", "–")
    assert found["maple", "dtd new"] == ("–", "–", "failed [2]", "50.00", "–")
    assert ("coop", "eurosat new") not in found  # neither measured nor published


def test_a_mean_over_sets_is_that_of_what_is_stored_beside_it() -> None:
    """Not the one that the last call has stored, which measured one set alone."""
    sets = [row("coop", "ood", f"{name}/mcm", value, metric="auroc") for name, value in (("a", 0.8), ("b", 0.6))]
    rows = [one.model_copy(update={"enters": ("mean",)}) for one in sets]
    last = row("coop", "ood", "mean/mcm", 0.6, metric="auroc").model_copy(update={"of": ("b",), "n": None})
    column = {"header": "mean", "suite": "ood", "cell": "mean/mcm", "metric": "auroc"}
    published = {"table": "Table 1", "columns": ["mean"], "rows": {"coop": [71.0]}}
    grid = {"methods": ["coop"], "data": ["coop:dtd"], "suites": ["ood"]}
    small = recipe(grid=[grid], column=[column], published=[published], gain=[])
    table = report(small, [*rows, last], NOTHING_MISSING).tables[0]
    assert table.rows == (("coop", "mean", "1", "mean of 2", "70.00", "71.00", "-1.00"),)


def test_what_stands_around_the_numbers() -> None:
    finished = report(recipe(), ROWS, NOTHING_MISSING)
    numbers, gains = finished.tables
    assert numbers.title == "Small (%)"
    assert "published: A paper, Table 9" in numbers.caption and "seeds 1, 2" in numbers.caption
    wrong = "printed 75.00, but the printed figures it averages give 70.00; the difference is to that"
    assert numbers.footnotes == (wrong, "failed: no memory")
    assert gains.rows == (("maple", "coop", "dtd base", "+1.50", "+1.5", "+0.00"),)  # 62 - 60.5
    for text in (finished.text(80), finished.markdown()):
        assert "Differs from the paper:" in text and "- the seeds" in text and "for the test" in text
        assert "Not there" not in text


def test_a_missing_data_set_is_listed() -> None:
    absent = Missing("coop:eurosat", "runs skipped", "there is no folder eurosat in /data", "it is had from its page")
    present = Present({}, (absent,))
    found = lines([r for r in ROWS if r.dataset == "dtd"], present)
    assert found["coop", "eurosat base"] == ("–", "–", "skipped", "80.00", "–")
    text = report(recipe(), ROWS, present).text(200)
    assert "- coop:eurosat (runs skipped): there is no folder eurosat in /data; it is had from its page" in text


def test_columns_fit_a_terminal() -> None:
    texts = [report(load_recipe(name), [], NOTHING_MISSING).text(80) for name in ("gallop-ood", "bloom-base-to-new")]
    table_lines = [line for text in texts for line in text.splitlines() if not line.startswith("[")]
    assert max(map(len, table_lines)) <= 80


def test_shots_and_labels() -> None:
    few = load_recipe("dualpt-components")
    rows = [
        row("GPT, node", "accuracy", "test", value, dataset="dtd", shots=shots)
        for shots, value in ((1, 0.47), (16, 0.66))
    ]
    found = {cells[:2]: cells[4:] for cells in report(few, rows, NOTHING_MISSING).tables[0].rows}
    assert found["GPT, node", "1-shot dtd"] == ("47.00", "46.83", "+0.17")
    assert found["GPT, node", "16-shot dtd"] == ("66.00", "65.23", "+0.77")
    assert found["GPT, node", "2-shot dtd"] == ("–", "51.53", "–")

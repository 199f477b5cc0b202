"""Recipes: read, run, resumed; their table against numbers worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.training.material import make_photos, runtime
from vlmprompt.backbones.cached import CachedFeatures
from vlmprompt.backbones.extraction import Extraction
from vlmprompt.backbones.features import carry_out
from vlmprompt.cli.main import main
from vlmprompt.errors import InputError, UsageError
from vlmprompt.evaluation import images
from vlmprompt.evaluation.executors.contract import Executor, ExecutorConfig, SweepOutcome, SweepTask
from vlmprompt.evaluation.executors.worker import SweepWorker
from vlmprompt.evaluation.load import load_suites
from vlmprompt.progress import Progress
from vlmprompt.reproduce.missing import Present
from vlmprompt.reproduce.recipe import REFERENCE_NAMES, Recipe, load_recipe, recipe_names
from vlmprompt.reproduce.report import report
from vlmprompt.reproduce.run import configuration, left_to_train, reproduce, so_far, sweep_grid
from vlmprompt.results.overview import Pick, overview
from vlmprompt.results.rows import ResultRow

pytestmark = pytest.mark.usefixtures("tiny_spec")

TEXT = """
title = "Small"
about = "two ways to train CoOp"
note = "made of noise"
seeds = [1, 2]

[[grid]]
methods = ["coop"]
data = ["folder:photos"]
backbone = "tiny-vit"
shots = [2]
suites = ["accuracy"]
settings = { n_ctx = 2, max_steps = 3, batch_size = 4 }

[[grid]]
methods = ["coop"]
label = "coop, 4 tokens"
data = ["folder:photos"]
backbone = "tiny-vit"
setting = "base-to-new"
shots = [2]
suites = ["base-to-new"]
settings = { "options.n_ctx" = 4, "options.ctx_init" = "none", max_steps = 3, batch_size = 4 }
reference = false

[[column]]
header = "all"
suite = "accuracy"
cell = "test"
metric = "top1"

[[column]]
header = "H"
suite = "base-to-new"
cell = "h"
metric = "h_of_means"
"""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe beside the photos that it names."""
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "photos", splits={"train": 3, "test": 3})
    (tmp_path / "small.toml").write_text(TEXT, encoding="utf-8")
    return tmp_path / "small.toml"


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_name_things_that_exist(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.about and recipe.title
    for spec in recipe.grid:
        load_suites(spec.suites)
        for flags in (run for group in sweep_grid(spec, [1]).groups() for run in group):
            assert configuration(spec, flags).run.method in spec.methods
    measured = {suite for spec in recipe.grid for suite in spec.suites}
    assert {column.suite for column in recipe.columns if column.suite} <= measured
    named = {method for column in recipe.columns for method in column.methods}
    assert named <= {*recipe.names, *REFERENCE_NAMES}


def test_a_recipe_from_the_command_line(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["reproduce", "small.toml", "--device", "cpu", "--workers", "0"]
    assert main([*command, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["data"]["rows"]
    by_method: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_method.setdefault(row["method"], []).append(row)
    assert set(by_method) == {"coop", "coop, 4 tokens", "zeroshot", "linear_probe"}
    assert {row["seed"] for row in by_method["coop"]} == {1, 2}
    assert main(command) == 0
    captured = capsys.readouterr()
    assert "Small" in captured.out and "made of noise" in captured.out
    assert "measured before" in captured.err
    folder = Path("reproduce/small")
    assert "| coop |" in (folder / "table.md").read_text() and (folder / "results.jsonl").exists()
    contexts = {p: json.loads(p.read_text())["config"] for p in folder.glob("**/runs/*/run.json")}
    assert (folder / "coop-4-tokens" / "runs").is_dir()
    assert sorted(c["options"]["n_ctx"] for c in contexts.values()) == [2, 2, 4, 4]


@pytest.mark.parametrize("flags", [[], ["--so-far"]])
def test_a_table_of_somebody_elses_is_not_replaced(
    small: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    monkeypatch.setattr("vlmprompt.reproduce.run.reproduce", lambda *a, **k: pytest.fail("work was begun"))
    table = Path("notes") / "table.md"
    table.parent.mkdir()
    table.write_text("my own")
    assert main(["reproduce", "small.toml", "--out", "notes", *flags]) == 3
    assert f"{table} was not made here" in capsys.readouterr().err and table.read_text() == "my own"


def test_a_second_run_measures_nothing(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, out = load_recipe(str(small)), tmp_path / "out"
    first = reproduce(recipe, runtime(tmp_path), out=out, seeds=[1])
    monkeypatch.setattr("vlmprompt.evaluation.measuring.measured", lambda *a: pytest.fail("measured again"))
    assert reproduce(recipe, runtime(tmp_path), out=out, seeds=[1]) == first


def test_mistakes_in_recipes(small: Path, tmp_path: Path) -> None:
    for wrong, message in {
        "title = 3": "title",
        TEXT.replace("suites = ", "suits = ", 1): r"grid\.0\.suit",
        TEXT.replace('data = ["folder:photos"]', "data = []", 1): r"grid\.0\.data",
        "title = ": "not TOML",
    }.items():
        small.write_text(wrong, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            load_recipe(str(small))
    with pytest.raises(UsageError, match="there is no recipe 'dem'") as error:
        load_recipe("dem")
    assert "'demo'" in str(error.value.hint)
    broken = Recipe.model_validate(_minimal(methods=["coop", "cop"]))
    with pytest.raises(UsageError, match="'cop'"):  # before anything is trained
        reproduce(broken, runtime(tmp_path), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _minimal(**grid: Any) -> dict[str, Any]:
    spec = {"data": ["folder:photos"], "backbone": "tiny-vit", "suites": ["accuracy"], **grid}
    column = {"header": "all", "suite": "accuracy", "cell": "test", "metric": "top1"}
    return {"title": "t", "about": "a", "grid": [spec], "column": [column]}


def row(method: str, suite: str, cell: str, value: float | None, **changes: Any) -> ResultRow:
    content = {
        "run": f"{method}-{changes.get('shots', 16)}-{changes.get('seed', 1)}-{suite}",
        "method": method,
        "dataset": "doodles",
        "backbone": "b",
        "shots": 16,
        "seed": 1,
        "suite": suite,
        "suite_version": 1,
        "cell": cell,
        "metric": "top1",
        "value": value,
        "n": 10,
        "key": f"{method}{suite}{cell}{changes}",
    }
    return ResultRow.model_validate(content | changes)


PICKS = [
    Pick("accuracy", "accuracy", "test", "top1"),
    Pick("domains", "domain-generalization", "mean", "top1"),
    Pick("H", "base-to-new", "h", "h_of_means"),
]


def test_overview_by_hand() -> None:
    rows = [
        row("coop", "accuracy", "test", 0.5),
        row("coop", "accuracy", "test", 0.7, seed=2),
        row("coop", "domain-generalization", "mean", 0.25),
        *(
            row("coop", "base-to-new", cell, value, metric=metric, seed=seed, run=f"b{seed}")
            for seed, base, new in ((1, 0.8, 0.4), (2, 0.6, 0.6))
            for cell, metric, value in (("base", "top1", base), ("new", "top1", new), ("h", "h_of_means", 0.5))
        ),
        row("probe", "base-to-new", "h", None, metric="h_of_means", status="not_applicable", note="knows its classes"),
    ]
    table = overview(rows, PICKS, "Title")
    assert table.title == "Title (%)"
    assert table.columns == ("method", "seeds", "accuracy", "domains", "H")
    coop, probe = table.rows
    # 100 * mean(.5, .7) = 60, sd sqrt(.02) = 14.14; H of means = 2 * .7 * .5 / 1.2 = 58.33
    assert coop == ("coop", "2", "60.00 ± 14.14", "25.00", "58.33")
    assert probe == ("probe", "1", "–", "–", "n/a [1]")
    assert table.footnotes == ("not applicable: knows its classes",)


def test_shots_go_down_unless_columns_are_for_some() -> None:
    rows = [row("coop", "accuracy", "test", 0.1 * k, shots=k) for k in (1, 4)]
    rows.append(row("zeroshot", "accuracy", "test", 0.3, shots=None, seed=None))
    assert overview(rows, PICKS[:1], "t").columns == ("method", "shots", "accuracy")
    by_shots = [Pick(f"{k} shots", "accuracy", "test", "top1", shots=k) for k in (1, 4)]
    table = overview(rows, by_shots, "t")
    assert table.columns == ("method", "1 shots", "4 shots")
    assert table.rows == (("coop", "10.00", "40.00"), ("zeroshot", "30.00", "30.00"))


def test_classes_that_a_suite_is_trained_on_keep_no_rows_apart() -> None:
    base_to_new = row("coop", "base-to-new", "base", 0.8, setup={"setting": "base-to-new"})
    picks = [Pick("accuracy", "accuracy", "test", "top1"), Pick("base", "base-to-new", "base", "top1")]
    assert overview([row("coop", "accuracy", "test", 0.5), base_to_new], picks, "t").rows == (
        ("coop", "50.00", "80.00"),
    )
    both = [row("coop", "base-to-new", "base", 0.6), base_to_new]  # which one suite cannot say
    assert overview(both, picks, "t").columns == ("method", "setting", "accuracy", "base")


def test_tables_of_one_recipe() -> None:
    recipe = Recipe.model_validate(
        _minimal(methods=["coop", "maple"])
        | {
            "column": [
                {"header": "{shots} shots", "shots": [1, 4], "suite": "accuracy", "cell": "test", "table": "Few shots"},
                {"header": "{}", "each": ["u/mcm", "mean/mcm"], "suite": "ood", "cell": "{}", "table": "Outliers"}
                | {"methods": ["coop"], "metric": "auroc"},
            ]
        }
    )
    rows = [row(method, "accuracy", "test", 0.1 * k, shots=k) for method in ("coop", "maple") for k in (1, 4)]
    rows += [
        row(method, "ood", f"{name}/{score}", value, metric="auroc")
        for method in ("coop", "maple")
        for name, score, value in (("u", "mcm", 0.8), ("u", "msp", 0.3), ("mean", "mcm", 0.9))
    ]
    few, outliers = report(recipe, rows, Present({}, ())).tables
    assert few.title == "Few shots: top1 (%)" and few.rows == (("coop", "10.00", "40.00"), ("maple", "10.00", "40.00"))
    assert outliers.columns == ("method", "u/mcm", "mean/mcm") and outliers.rows == (("coop", "80.00", "90.00"),)


def test_a_column_of_one_data_set() -> None:
    rows = [row("coop", "accuracy", "test", 0.2), row("coop", "accuracy", "test", 0.6, dataset="other")]
    picks = [Pick(name, "accuracy", "test", "top1", data=name) for name in ("doodles", "other")]
    assert overview(rows, picks, "t").rows == (("coop", "20.00", "60.00"),)


def test_parts_have_tables_of_their_own(small: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.toml"
    whole.write_text(TEXT.replace("Small", "Large").replace("seeds = [1, 2]", 'seeds = [3]\nparts = ["small.toml"]'))
    recipe, part = load_recipe("whole.toml"), load_recipe("small.toml")
    assert [grid.seeds for grid in recipe.grid] == [None, None, [1, 2], [1, 2]]
    assert [(column.header, column.table) for column in recipe.columns] == [
        ("all", ""),
        ("H", ""),
        ("all", "Small"),
        ("H", "Small"),
    ]
    rows = [row("coop", "accuracy", "test", 0.25), row("maple", "accuracy", "test", 0.5)]
    large, shown = report(recipe, rows, Present({}, ())).tables
    assert large.title == "Large (%)" and [line[:2] for line in large.rows] == [("coop", "25.00"), ("maple", "50.00")]
    assert shown.title == "Small (%)" and [line[:2] for line in shown.rows] == [("coop", "25.00")]
    assert {*part.names, *REFERENCE_NAMES} == set(recipe.columns[2].methods)
    for wrong, message in {"whole.toml": "parts of its own", "gallop-ood": "published figures"}.items():
        (tmp_path / "wrong.toml").write_text(TEXT.replace("seeds = [1, 2]", f'parts = ["{wrong}"]'))
        with pytest.raises(InputError, match=f"cannot have {wrong} as a part, which has {message}"):
            load_recipe("wrong.toml")


def test_h_is_of_the_halves_of_its_own_data_set() -> None:
    rows = [
        row("coop", "base-to-new", cell, value, metric=metric, dataset=data, run=data, seed=1)
        for data, base, new in (("doodles", 0.8, 0.4), ("other", 0.6, 0.2))
        for cell, metric, value in (("base", "top1", base), ("new", "top1", new), ("h", "h_of_means", 0.5))
    ]
    picks = [Pick(f"H of {data}", "base-to-new", "h", "h_of_means", data=data) for data in ("doodles", "other")]
    # 2 * .8 * .4 / 1.2 = 53.33; 2 * .6 * .2 / .8 = 30
    for chosen, numbers in ((picks, ("53.33", "30.00")), (picks[1:], ("30.00",))):
        assert overview(rows, chosen, "t").rows == (("coop", *numbers),)


def test_columns_that_are_no_percent_make_the_others_say_so() -> None:
    rows = [row("coop", "accuracy", "test", 0.5), row("coop", "prompts", "text", 0.25, metric="cosine")]
    picks = [Pick("accuracy", "accuracy", "test", "top1"), Pick("alike", "prompts", "text", "cosine")]
    table = overview(rows, picks, "t")
    assert (table.title, table.columns) == ("t", ("method", "accuracy %", "alike"))
    assert table.rows == (("coop", "50.00", "0.25"),)
    below = [row("coop", "pointing", "test", -0.02, metric="above_chance")]
    table = overview(below, [Pick("above chance", "pointing", "test", "above_chance")], "t")
    assert table.rows == (("coop", "-2.00"),) and table.title.endswith("(%)")


def test_images_are_read_once_for_all_grids(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grids, column, _ = TEXT.split("[[column]]")
    same = grids.replace('setting = "base-to-new"\n', "").replace("base-to-new", "accuracy") + "[[column]]" + column
    small.write_text(same, encoding="utf-8")
    computed: list[str] = []

    def counted(work: Extraction, progress: Progress, description: str) -> list[CachedFeatures]:
        computed.append(description)
        return carry_out(work, progress, description)

    monkeypatch.setattr(images, "carry_out", counted)
    rows = reproduce(load_recipe(str(small)), runtime(tmp_path), out=tmp_path / "out", seeds=[1])
    assert {row.method for row in rows} == {"coop", "coop, 4 tokens", "zeroshot", "linear_probe"}
    assert computed == ["test images of photos"]


class Here(Executor):
    """Carries tasks out in this process, the last one first."""

    def __init__(self) -> None:
        super().__init__(ExecutorConfig())
        self.given: list[list[str]] = []
        self._worker = SweepWorker(lambda event: None)

    def run(
        self, tasks: Sequence[SweepTask], progress: Progress
    ) -> Generator[tuple[SweepTask, SweepOutcome], None, None]:
        self.given.append([task.name for task in tasks])
        for task in reversed(tasks):
            yield task, self._worker.do(task)


def test_an_executor_has_the_runs_of_all_grids_at_once(small: Path, tmp_path: Path) -> None:
    recipe, executor = load_recipe(str(small)), Here()
    rows = reproduce(recipe, runtime(tmp_path), out=tmp_path / "out", executor=executor)
    (names,) = executor.given
    assert [(name[:4], name.endswith("base-to-new")) for name in names] == [("coop", False)] * 2 + [("coop", True)] * 2
    assert left_to_train(recipe, out=tmp_path / "out") == 0
    assert left_to_train(recipe, out=tmp_path / "none") == 4
    one_by_one = reproduce(recipe, runtime(tmp_path), out=tmp_path / "one")
    assert [(row.method, row.seed, row.suite, row.cell, row.metric, row.value) for row in rows] == [
        (row.method, row.seed, row.suite, row.cell, row.metric, row.value) for row in one_by_one
    ]


def test_what_is_measured_so_far(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, out = load_recipe(str(small)), tmp_path / "out"
    command = ["reproduce", str(small), "--out", str(out), "--so-far"]
    assert main(command) == 3
    assert "nothing of" in capsys.readouterr().err
    whole = reproduce(recipe, runtime(tmp_path), out=out, seeds=[1])
    rows, waiting = so_far(recipe, out=out, seeds=[1])
    assert waiting == [] and sorted(map(str, rows)) == sorted(map(str, whole))
    assert main([*command, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert len(data["rows"]) == len(whole)  # of the second seed there is nothing
    assert [line.rpartition(": ")[2] for line in data["waiting"]] == ["coop 1", "coop 1"]
    assert main(command) == 0
    assert "Not run yet:" in capsys.readouterr().out
    assert not list(out.glob("**/*seed2*"))


def test_references_count_wherever_they_were_measured(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    reproduce(load_recipe(str(small)), runtime(tmp_path), out=out, seeds=[1])
    small.write_text(TEXT.replace('methods = ["coop"]', 'methods = ["kgcoop"]', 1), encoding="utf-8")
    rows, _ = so_far(load_recipe(str(small)), out=out, seeds=[1])
    assert {row.method for row in rows} == {"coop, 4 tokens", "zeroshot", "linear_probe"}
    rows, _ = so_far(load_recipe(str(small)), out=out, seeds=[2])
    assert {row.method for row in rows} == {"zeroshot"}  # it has no seed

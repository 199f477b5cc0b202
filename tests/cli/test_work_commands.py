"""`train`, `evaluate`, `sweep`, `report`: what they pass on and what they print; the work itself is faked."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vlmprompt.cli import report as report_module
from vlmprompt.cli.main import main
from vlmprompt.evaluation import runner, sweep
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import ResultStore
from vlmprompt.training import dry_run, run, runs

RUN = ["--method", "coop", "--data", "folder:photos", "--backbone", "RN50", "--random-weights"]


def row(**changes: Any) -> ResultRow:
    content = {
        "run": "a",
        "method": "coop",
        "dataset": "photos",
        "backbone": "RN50",
        "shots": 1,
        "seed": 1,
        "suite": "accuracy",
        "suite_version": 1,
        "cell": "test",
        "metric": "top1",
        "value": 0.25,
        "n": 8,
        "key": "k",
    }
    return ResultRow.model_validate(content | changes)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with data and runs that are there, which is looked at before any work."""
    for folder in ("photos", "new", "d", "x", "a", "b", "there/newest"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "run.json").write_text('{"status": "finished"}')
    (tmp_path / "birds.csv").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Calls:
    """Stands in for a function: keeps its arguments, gives a value."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.args: list[tuple[Any, ...]] = []
        self.kwargs: list[dict[str, Any]] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.args.append(args)
        self.kwargs.append(kwargs)
        return self.value


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls(run.TrainResult(Path("runs/my run"), {"loss": 0.5, "train_accuracy": 0.75}))
    monkeypatch.setattr(run, "train", calls)
    return calls


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    return content


def test_train_passes_everything_on(
    trained: Calls, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLMPROMPT_ROOT", "/pictures")
    where = ["--device", "cpu", "--workers", "0", "--runs-dir", "r", "--feature-cache", "f"]
    assert main(["train", *RUN, "--lr", "0.5", *where, "--out", "o", "--resume", "--force", "--json"]) == 0
    config, runtime = trained.args[0]
    assert (config.method, config.random_weights, config.train.lr) == ("coop", 0, 0.5)
    assert (runtime.device, runtime.workers, runtime.root) == ("cpu", 0, Path("/pictures"))
    assert (runtime.runs_dir, runtime.feature_cache) == (Path("r"), Path("f"))
    passed = trained.kwargs[0]
    assert (passed["out"], passed["resume"], passed["force"]) == (Path("o"), True, True)
    assert passed["sources"]["train.lr"] == "--lr"
    assert document(capsys)["data"] == {
        "run": "runs/my run",
        "metrics": {"loss": 0.5, "train_accuracy": 0.75},
        "kept": None,
    }


@pytest.mark.parametrize(
    ("extra", "command"),
    [
        ([], "vlmprompt evaluate 'runs/my run' --suite accuracy"),
        (
            ["--setting", "base-to-new", "--root", "/p"],
            "vlmprompt evaluate 'runs/my run' --suite base-to-new --root /p",
        ),
    ],
)
def test_train_names_the_next_command(
    trained: Calls, capsys: pytest.CaptureFixture[str], extra: list[str], command: str
) -> None:
    assert main(["train", *RUN, *extra]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "run   runs/my run",
        "last  loss 0.5  train_accuracy 0.75",
        f"next  {command}",
    ]


def test_a_dry_run_trains_nothing(
    trained: Calls, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "dry_run", Calls({"plan": {"steps": 3}}))
    monkeypatch.setattr(dry_run, "report_lines", lambda report: [f"{report['plan']['steps']} steps"])
    assert main(["train", *RUN, "--dry-run"]) == 0
    assert capsys.readouterr().out == "3 steps\n"
    assert main(["train", *RUN, "--dry-run", "--json"]) == 0
    assert document(capsys)["data"] == {"dry_run": {"plan": {"steps": 3}}}
    assert trained.args == []


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls([row(), row(metric="ece_15", value=0.125, higher_is_better=False)])
    monkeypatch.setattr(runner, "evaluate_each", calls)
    monkeypatch.setattr(runs, "load_run", lambda path: SimpleNamespace(path=path))
    monkeypatch.setattr(runs, "newest_run", lambda runs_dir: runs_dir / "newest")
    return calls


def test_evaluate_takes_the_newest_run_and_says_so(measured: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--runs-dir", "there"]) == 0
    captured = capsys.readouterr()
    assert f"newest run: {Path('there/newest')}" in captured.err
    assert "25.00" in captured.out
    (subject,), suites, runtime, wanted = measured.args[0]
    assert (subject.path, suites, runtime.runs_dir) == (Path("there/newest"), ["accuracy"], Path("there"))
    assert (wanted.reference, wanted.force) == (True, False)


def test_evaluate_measures_runs_together(measured: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--suite", "few-shot", "--suite", "accuracy", "--no-reference", "--force", "--json"]
    assert main(["evaluate", "a", "b", *flags]) == 0
    ((together, suites, _, wanted),) = measured.args
    assert [run.path for run in together] == [Path("a"), Path("b")] and suites == ["few-shot", "accuracy"]
    assert (wanted.reference, wanted.force) == (False, True)
    rows = document(capsys)["data"]["rows"]
    assert len(rows) == 2
    assert rows[0] == row().public()


def test_evaluate_on_other_data(measured: Calls) -> None:
    flags = ["--data", "folder:new", "--aliases", "names.txt", "--contents", "--domain", "folder:d"]
    assert main(["evaluate", "a", *flags]) == 0
    wanted = measured.args[0][3]
    assert (wanted.data, wanted.aliases, wanted.contents) == ("folder:new", Path("names.txt"), True)
    assert wanted.companions["domains"] == ["folder:d"]


def test_train_takes_what_the_data_need(trained: Calls) -> None:
    flags = ["--allow-overlap", "--allow-outside", "--split-seed", "7"]
    assert main(["train", *RUN, *flags]) == 0
    config = trained.args[0][0]
    assert (config.allow_overlap, config.allow_outside, config.split_seed) == (True, True, 7)
    assert main(["train", *RUN]) == 0
    config = trained.args[1][0]
    assert (config.allow_overlap, config.allow_outside, config.split_seed) == (False, False, 1)


def test_a_failed_cell_is_exit_5_with_the_rows(measured: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    measured.value = [row(), row(cell="hard", status="failed", note="too dark")]
    assert main(["evaluate", "a", "--json"]) == 5
    content = document(capsys)
    assert (content["ok"], content["error"]["code"]) == (False, 5)
    assert "too dark" in content["error"]["message"]
    assert [r["status"] for r in content["data"]["rows"]] == ["ok", "failed"]


def test_a_reporter_beside_json_is_told_that_it_is_idle(measured: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "a", "--reporter", "csv", "--json"]) == 0
    (warning,) = json.loads(capsys.readouterr().out)["warnings"]
    assert warning == "--reporter csv has no effect with --json, which has all rows"


@pytest.mark.parametrize("reporter", ["markdown", "csv", "json"])
def test_reporters(measured: Calls, capsys: pytest.CaptureFixture[str], reporter: str) -> None:
    assert main(["evaluate", "a", "--reporter", reporter]) == 0
    sign = {"markdown": "| method |", "csv": "run,method,", "json": '"rows": ['}[reporter]
    assert sign in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["evaluate", "a", "--suite", "acuracy"], "unknown suite 'acuracy'"),
        (["evaluate", "a", "--reporter", "markdwon"], "unknown reporter 'markdwon'"),
        (["sweep", *RUN, "--method", "cop"], "unknown method 'cop'"),
        (["sweep", *RUN, "--suite", "acuracy"], "unknown suite 'acuracy'"),
        (["sweep", "--shots", "4"], "no method"),
        (["report", "--reporter", "x"], "unknown reporter 'x'"),
    ],
)
def test_wrong_names_are_found_before_any_work(
    measured: Calls, capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    assert main(args) == 2
    assert message in capsys.readouterr().err
    assert measured.args == []


@pytest.fixture
def swept(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls([row()])
    monkeypatch.setattr(sweep, "sweep", calls)
    return calls


def test_sweep_combines_what_is_repeated(swept: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    axes = ["--method", "zeroshot", "--data", "csv:birds.csv", "--shots", "1", "--shots", "all"]
    axes += ["--seed", "1", "--seed", "2"]
    assert main(["sweep", *RUN, *axes, "--lr", "0.5", "--out", "o", "--no-reference", "--json"]) == 0
    grid, resolve, suites, runtime = swept.args[0]
    assert (grid.methods, grid.datasets) == (["coop", "zeroshot"], ["folder:photos", "csv:birds.csv"])
    assert (grid.shots, grid.seeds, suites) == (["1", "all"], [1, 2], ["accuracy"])
    assert (swept.kwargs[0]["out"], swept.kwargs[0]["reference"]) == (Path("o"), False)
    config = resolve(method="coop", data="csv:birds.csv", shots="all", seed=2).run
    assert (config.data, config.shots, config.seed, config.train.lr) == ("csv:birds.csv", None, 2, 0.5)
    assert document(capsys)["data"] == {"results": str(Path("o/results.jsonl")), "rows": [row().public()]}
    assert runtime.device == "auto"


def test_an_axis_that_is_not_given_comes_from_the_configuration(
    swept: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.toml").write_text('method = "coop"\ndata = "folder:x"\nbackbone = "RN50/openai"\nshots = "all"\n')
    monkeypatch.setenv("VLMPROMPT_SEED", "7")
    assert main(["sweep", "--config", str(tmp_path / "run.toml")]) == 0
    grid = swept.args[0][0]
    assert (grid.methods, grid.datasets, grid.shots, grid.seeds) == (["coop"], ["folder:x"], ["all"], [7])


def test_a_failed_run_of_a_sweep_is_exit_5(swept: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    swept.value = [row(), row(seed=2, cell="*", metric="*", status="failed", note="no images")]
    assert main(["sweep", *RUN]) == 5
    captured = capsys.readouterr()
    assert "25.00" in captured.out
    assert "1 of 2 cells failed" in captured.err


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    for name, value in (("a", 0.25), ("b", 0.5)):
        ResultStore(tmp_path / "runs" / name / "results.jsonl").append(
            [row(run=name, seed={"a": 1, "b": 2}[name], value=value, key=name)]
        )
    return tmp_path / "runs"


@pytest.mark.parametrize("which", [[], ["a", "b"], ["a/results.jsonl", "b"], ["a", "a/results.jsonl", "b"]])
def test_report_reads_files_runs_and_folders_of_runs(
    stored: Path, capsys: pytest.CaptureFixture[str], which: list[str]
) -> None:
    paths = [str(stored / name) for name in which]
    assert main(["report", *paths, "--runs-dir", str(stored), "--json"]) == 0
    assert [(r["run"], r["value"]) for r in document(capsys)["data"]["rows"]] == [("a", 0.25), ("b", 0.5)]
    assert main(["report", *paths, "--runs-dir", str(stored), "--reporter", "markdown"]) == 0
    assert "37.50 ± 17.68" in capsys.readouterr().out  # half the difference times the root of two


def test_report_warns_of_a_torn_line(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = stored / "a" / "results.jsonl"
    file.write_bytes(file.read_bytes() + b'{"run": ')
    assert main(["report", str(stored / "a"), "--json"]) == 0
    content = document(capsys)
    assert len(content["data"]["rows"]) == 1
    assert "incomplete" in content["warnings"][0]


def test_report_names_a_folder_in_the_place_of_results(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = stored / "a" / "results.jsonl"
    file.unlink()
    file.mkdir()
    assert main(["report", str(stored / "a")]) == 3
    assert "results.jsonl: Is a directory" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "message"), [("nowhere", "does not exist"), ("", "holds no results")])
def test_report_without_results(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, message: str) -> None:
    assert main(["report", str(tmp_path / name)]) == 3
    assert message in capsys.readouterr().err


def test_the_results_file_has_one_name() -> None:
    assert report_module.RESULTS_FILE == runner.RESULTS_FILE

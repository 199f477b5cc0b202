"""What a page is loaded from: which run a row belongs to, and what is damaged, stale or not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.report.material import CHECKPOINT, details, key_of, measured, write_run
from vlmprompt.errors import InputError
from vlmprompt.report.explained import Explained
from vlmprompt.report.loading import Loaded, load, read_log, unmeasured
from vlmprompt.report.section import Table
from vlmprompt.report.sections import calibrated
from vlmprompt.results.store import ResultStore, current

P = [[0.75, 0.25], [0.5, 0.5]]
FITTED = {
    "temperature": 1.5,
    "split": "val",
    "n": 40,
    "checkpoint": CHECKPOINT,
    "before": {"ece_15": 0.125, "nll": 1.25, "brier": 0.5},
    "after": {"ece_15": 0.0625, "nll": 1.0, "brier": 0.25},
    "test": {"n": 80, "before": {"ece_15": 0.25, "nll": 1.5}, "after": {"ece_15": 0.2, "nll": 1.4, "brier": 0.3}},
    "conformal": [
        {"alpha": 0.05, "threshold": 1.0, "n": 40},
        {"alpha": 0.1, "threshold": 0.75, "n": 40, "coverage": 0.9125, "mean_size": 2.5, "test_n": 80},
    ],
}


def loaded(*files: Path) -> Loaded:
    return load({file: current(ResultStore(file).read().rows) for file in files})


def test_a_run_and_what_stands_beside_it(tmp_path: Path) -> None:
    rows = [
        measured("run", 1, method="zeroshot", value=0.25),  # written first, and yet the reference
        measured("run", 2, value=0.5),
    ]
    log = [{"step": 1, "loss": 0.5}]
    folder = write_run(tmp_path / "run", rows, log=log, cells={key_of(2): details("ab", ("cat", "dog"), P, [0, 1])})
    found = loaded(folder / "results.jsonl")
    own, beside = found.runs
    assert (own.name, own.method, own.reference, own.path, own.title) == ("run", "coop", False, folder, "run")
    assert own.info is not None and own.info.checkpoint == CHECKPOINT and own.info.config.shots == 4
    assert own.rows == [rows[1]] and own.log == log
    assert list(own.details) == [key_of(2)] and own.details[key_of(2)].ids == ("a", "b")
    assert (beside.name, beside.method, beside.reference, beside.path) == ("run", "zeroshot", True, None)
    assert beside.title == "zeroshot beside run"
    assert beside.rows == [rows[0]] and beside.info is None and len(beside.details) == 0
    assert found.left_out == []


def test_runs_of_a_sweep_are_found_below_it(tmp_path: Path) -> None:
    write_run(tmp_path / "sweep/runs/one", [])
    write_run(tmp_path / "sweep/runs/two", [])
    file = tmp_path / "sweep/results.jsonl"
    rows = [measured("one", 1, value=0.5), measured("two", 2, value=0.25), measured("one", 3, method="linear_probe")]
    ResultStore(file).append(rows)
    runs = loaded(file).runs
    assert [(run.name, run.method, run.reference, run.info is not None) for run in runs] == [
        ("one", "coop", False, True),
        ("one", "linear_probe", True, False),
        ("two", "coop", False, True),
    ]


def test_a_folder_that_was_renamed_is_still_its_runs(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [measured("run", value=0.5)])
    moved = folder.rename(tmp_path / "moved")
    (run,) = loaded(moved / "results.jsonl").runs
    assert (run.name, run.path) == ("run", moved)


def test_without_a_run_json_the_method_is_the_one_that_is_no_reference(tmp_path: Path) -> None:
    file = tmp_path / "x/results.jsonl"
    ResultStore(file).append([measured("x", 1, method="zeroshot"), measured("x", 2, method="bloom")])
    runs = loaded(file).runs
    assert [(run.method, run.reference) for run in runs] == [("bloom", False), ("zeroshot", True)]


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    files = []
    for parent in ("a", "b", "c"):
        rows = [measured("run", 1, value=0.5), measured("run", 2, method="zeroshot")]
        files.append(write_run(tmp_path / parent / "run", rows) / "results.jsonl")
    titles = [run.title for run in loaded(*files).runs]
    assert len(set(titles)) == 6
    assert titles[::2] == ["run", "run (2)", "run (3)"]


def test_runs_without_results_are_found_beside_the_others(tmp_path: Path) -> None:
    done = write_run(tmp_path / "done", [measured("done", value=0.5)])
    bare = write_run(tmp_path / "bare", [], status="interrupted")
    assert unmeasured([tmp_path], [done / "results.jsonl"]) == [bare]
    found = load({}, beside=[bare])
    assert [(run.name, run.rows) for run in found.runs] == [("bare", [])]


def damage_details(folder: Path) -> str:
    file = folder / "details" / f"{key_of(1)}.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    return file.name


def damage_info(folder: Path) -> str:
    (folder / "run.json").write_text("{")
    return "run.json is damaged"


def damage_log(folder: Path) -> str:
    (folder / "log.jsonl").write_text('{"step": 1}\nnonsense\n{"step": 3}\n')
    return "line 2 of"


def damage_calibration(folder: Path) -> str:
    (folder / "calibration.json").write_text("[]")
    return "calibration.json is damaged"


def stale_calibration(folder: Path) -> str:
    (folder / "calibration.json").write_text(json.dumps({**FITTED, "checkpoint": "other"}))
    return "calibration.json was fitted for another checkpoint"


def damage_explained(folder: Path) -> str:
    (folder / "explain").mkdir()
    (folder / "explain/explain.json").write_text(json.dumps({"version": 2, "run": "run"}))
    return "explain.json is damaged, or of another version"


def stale_explained(folder: Path) -> str:
    (folder / "explain").mkdir()
    (folder / "explain/explain.json").write_text(json.dumps({"version": 1, "run": "run", "checkpoint": "other"}))
    return "was made of another checkpoint"


@pytest.mark.parametrize(
    "damage",
    [
        damage_details,
        damage_info,
        damage_log,
        damage_calibration,
        stale_calibration,
        damage_explained,
        stale_explained,
    ],
)
def test_what_cannot_be_used_is_named_once_and_the_rest_is_there(tmp_path: Path, damage: object) -> None:
    cells = {key_of(n): details("ab", ("cat", "dog"), P, [0, 1]) for n in (1, 2)}
    rows = [measured("run", 1, value=0.5), measured("run", 2, suite="few-shot", value=0.5)]
    folder = write_run(tmp_path / "run", rows, cells=cells, log=[{"step": 1}])
    told = damage(folder)  # type: ignore[operator]
    found = loaded(folder / "results.jsonl")
    (run,) = found.runs
    whole = [key_of(2)] if damage is damage_details else [key_of(1), key_of(2)]
    assert list(run.details) == whole and list(run.details) == whole
    assert run.rows == rows
    assert len(found.left_out) == 1 and told in found.left_out[0], found.left_out
    assert "(" in found.left_out[0]  # the next step
    assert run.calibration is None and run.explained is None


def test_a_last_line_that_is_being_written_does_not_count(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text('{"step": 1}\n{"step": 2')
    assert read_log(file) == [{"step": 1}]
    assert read_log(tmp_path / "none") == []


def test_a_damaged_line_of_a_log_is_named(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text("[]\n")
    with pytest.raises(InputError, match=r"line 1 of .*log\.jsonl is damaged"):
        read_log(file)


def test_details_of_rows_that_hold_no_more_are_left_alone(tmp_path: Path) -> None:
    cells = {key_of(n): details("ab", ("cat", "dog"), P, [0, 1]) for n in (1, 2)}
    rows = [measured("run", 1, value=0.5), measured("run", 2, value=0.75)]  # measured anew
    folder = write_run(tmp_path / "run", rows, cells=cells)
    (run,) = loaded(folder / "results.jsonl").runs
    assert list(run.details) == [key_of(2)] and key_of(1) not in run.details and "../run" not in run.details


def test_nothing_was_explained(tmp_path: Path) -> None:
    assert Explained.read(tmp_path) is None


def test_the_temperature_of_a_run_is_shown(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [measured("run", value=0.5)])
    (folder / "calibration.json").write_text(json.dumps(FITTED))
    found = loaded(folder / "results.jsonl")
    section = calibrated.section(found.runs)
    assert section is not None and found.left_out == []
    temperatures, sets = section.parts
    assert isinstance(temperatures, Table) and isinstance(sets, Table)
    assert temperatures.rows == (
        ("run", "val, fitted on it", "40", "1.5", "12.50", "6.25", "1.2500", "1.0000", "0.5000", "0.2500"),
        ("run", "test", "80", "1.5", "25.00", "20.00", "1.5000", "1.4000", "–", "0.3000"),
    )
    assert sets.rows == (
        ("run", "5%", "0.0000", "40", "–", "–", "0"),
        ("run", "10%", "0.2500", "40", "91.25%", "2.50", "80"),
    )
    assert {len(line) for line in temperatures.rows} == {len(temperatures.columns)}
    assert {len(line) for line in sets.rows} == {len(sets.columns)}

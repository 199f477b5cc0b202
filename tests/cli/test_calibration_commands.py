"""`calibrate`, `report --calibration` and `report --classes`: what people and programs see."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.results.result_rows import row
from tests.training.material import config, make_photos, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.cli.main import main
from vlmprompt.results.details import Details, details_file
from vlmprompt.results.store import ResultStore
from vlmprompt.training.run import train

KEYS = {name: letter * 64 for name, letter in (("own", "a"), ("few", "b"), ("old", "c"))}


@pytest.fixture(scope="module")
def trained_probe(tiny_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear probe of 2 shots on photos of which those of two classes look alike; 8 validation images."""
    folder = tmp_path_factory.mktemp("probe")
    photos = make_photos(folder / "photos", splits={"train": 6, "test": 3})
    for split, n in (("train", 6), ("test", 3)):
        for place in range(0, n, 2):
            one, other = (photos / split / name / f"{place}.png" for name in ("red_fox", "grey wolf"))
            first, second = one.read_bytes(), other.read_bytes()
            one.write_bytes(second)
            other.write_bytes(first)
    settings = config(photos, method="linear_probe", shots=2)
    return train(settings, runtime(folder / "runs"), backbone=tiny_backbone).run


@pytest.fixture
def runs_dir(trained_probe: Path, tmp_path: Path) -> Path:
    """A folder with that run alone."""
    shutil.copytree(trained_probe, tmp_path / "runs" / "probe")
    return tmp_path / "runs"


@pytest.mark.usefixtures("tiny_spec")
def test_calibrate_says_what_it_keeps(runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--runs-dir", str(runs_dir), "--device", "cpu", "--workers", "0"]
    assert main(["calibrate", *where, "--json"]) == 0
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    kept = json.loads((runs_dir / "probe" / "calibration.json").read_text())
    assert document["data"] == kept | {"run": str(runs_dir / "probe")} and kept["n"] == 8
    assert document["warnings"][0] == "the temperature is fitted on 8 images; below 100 it is a rough guess"
    assert f"newest run: {runs_dir / 'probe'}" in shown.err and "calibration.json" in shown.err
    assert main(["calibrate", str(runs_dir / "probe"), *where]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"temperature {kept['temperature']:.4g}, fitted on 8 validation images"
    assert any(line.split()[:2] == ["NLL", "↓"] and f"{kept['before']['nll']:.4f}" in line for line in lines)
    assert lines[2].split("  ")[-1].strip() == "test after (12)"
    assert [line.split()[0] for line in lines[-3:]] == ["5%", "10%", "20%"]


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A run measured by two suites on the same images, and one cell without details."""
    file = tmp_path / "runs" / "a" / "results.jsonl"
    numbers = {"top1": 0.5, "ece_15": 0.125, "ece_adaptive_15": 0.25, "brier": 0.75, "nll": 0.9, "aurc": 0.0625}
    rows = []
    for own in ({"key": KEYS["own"]}, {"key": KEYS["few"], "suite": "few-shot", "cell": "16-shot"}):
        for name, value in numbers.items():
            rows.append(row(run="a", metric=name, value=value, higher_is_better=name == "top1", **own))
    rows.append(row(run="a", suite="cross-dataset", cell="cars", key=KEYS["old"]))
    ResultStore(file).append(rows)
    label, prediction = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 0])
    half, names = np.full(4, 0.5), ("red fox", "frog\x1b[31m", "nothing")
    floats = {"true_probability": half, "square_sum": half, "runner_up_probability": half}
    details = Details("classification", "folder:x", names, ids=tuple("abcd"), label=label, prediction=prediction)
    details = replace(details, confidence=half, runner_up=label, **floats)
    for name in ("own", "few"):
        place = details_file(file, KEYS[name])
        assert place is not None
        details.write(place)
    return tmp_path / "runs"


def report(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    assert main(["report", *words]) == code
    shown = capsys.readouterr()
    return shown.out, shown.err


def test_tables_keep_to_the_main_metrics(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = report(capsys, str(stored), "--reporter", "markdown")
    heads = [line for line in out.splitlines() if line.startswith("| method")]
    assert heads == ["| method | shots | top1 | ece 15 ↓ |", *["| method | shots | top1 |"] * 2]
    assert "brier ↓" not in out and "; also measured: 'vlmprompt report --calibration'" in out
    rows: list[Any] = json.loads(report(capsys, str(stored), "--json")[0])["data"]["rows"]
    assert len(rows) == 13


def test_calibration_has_tables_of_its_own(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = report(capsys, str(stored), "--calibration", "--reporter", "markdown")
    first = out.splitlines()
    assert "| method | shots | ece 15 % ↓ | ece adaptive 15 % ↓ | brier ↓ | nll ↓ | aurc % ↓ |" in first
    assert "| coop | 16 | 12.50 | 25.00 | 0.75 | 0.9 | 6.25 |" in first  # NLL and Brier score are no fractions
    assert "top1" not in out and "cross-dataset" not in out


def test_classes_once_with_what_they_are_taken_for(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = report(capsys, str(stored), "--classes")
    assert out.splitlines()[0] == "classes of a, coop: accuracy test on photos"
    assert out.count("classes of a") == 1  # few-shot says the same of the same images
    assert "1 cell of" in err and "without a file of single images" in err and "--force" in err
    assert "\x1b" not in out and "1 class without images is left out" in out
    out, _ = report(capsys, str(stored), "--classes", "--json")
    (cell,) = json.loads(out)["data"]["classes"]
    assert (cell["run"], cell["suite"], cell["dataset"]) == ("a", "accuracy", "folder:x")
    assert cell["classes"][0] == {
        "name": "red fox",
        "n": 2,
        "accuracy": 0.5,
        "taken_for": "frog\x1b[31m",
        "taken": 1,
    }
    out, _ = report(capsys, str(stored), "--classes", "--reporter", "markdown")
    assert "| red fox | 2 | 50.00 |" in out


def test_a_damaged_file_is_told_and_the_others_are_shown(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (stored / "a" / "details" / f"{KEYS['own']}.safetensors").write_bytes(b"x")
    out, err = report(capsys, str(stored), "--classes")
    assert "few-shot 16-shot" in out and "is damaged" in err


def test_where_nothing_is_known_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ResultStore(tmp_path / "a" / "results.jsonl").append([row(run="a", key=KEYS["old"])])
    assert "nothing is known of single images" in report(capsys, str(tmp_path / "a"), "--classes", code=3)[1]
    assert "how far probabilities can be trusted" in report(capsys, str(tmp_path / "a"), "--calibration", code=3)[1]

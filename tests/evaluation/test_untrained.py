"""`evaluate --method`: what needs no training is measured in one step, with the numbers of the row beside a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.describe.material import NAMES, write_descriptions
from tests.evaluation.material import accuracies
from tests.training.material import Hooked, make_photos, runtime
from vlmprompt.api import Backbone, evaluate, evaluate_method, load_dataset, unit
from vlmprompt.cli.main import main
from vlmprompt.errors import UsageError
from vlmprompt.methods.build import build_method
from vlmprompt.methods.classifier import Classifier
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import ResultStore, current
from vlmprompt.training.runs import find_runs

HERE = ["--device", "cpu", "--workers", "0"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def descriptions(here: Path) -> Path:
    return write_descriptions(here / "prompts_cache/photos/openai--m-1--features.jsonl", tuple(sorted(NAMES)))


def command(capsys: pytest.CaptureFixture[str], *flags: str, code: int = 0) -> dict[str, Any]:
    """The JSON document of `evaluate`."""
    capsys.readouterr()
    assert main(["evaluate", *flags, *HERE, "--json"]) == code
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def numbers(rows: list[dict[str, Any]]) -> dict[tuple[str, str, str], float | None]:
    return {(row["method"], row["cell"], row["metric"]): row["value"] for row in rows}


@pytest.mark.usefixtures("tiny_spec", "descriptions")
def test_the_rows_of_references_without_a_run(
    photos: Path, trained: Path, tiny_backbone: Backbone, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(trained, here / "elsewhere" / trained.name))
    beside = evaluate(run, "accuracy", runtime(here), reference=["zeroshot", "descriptions"], backbone=tiny_backbone)
    expected = {key: value for key, value in numbers([r.public() for r in beside]).items() if key[0] != "coop"}
    what = ["--data", f"folder:{photos}", "--backbone", "tiny-vit"]
    found = command(capsys, "--method", "zeroshot", "--method", "descriptions", *what)["data"]["rows"]
    assert numbers(found) == expected and len(expected) == 14  # two methods, seven metrics
    assert {(row["shots"], row["seed"], row["n"]) for row in found} == {(None, None, 12)}
    folders = sorted((here / "runs").iterdir())
    assert [folder.name.rpartition("-")[0] for folder in folders] == [
        "descriptions-photos-tiny-vit",
        "zeroshot-photos-tiny-vit",
    ]
    assert [sorted(f.name for f in folder.iterdir()) for folder in folders] == [["details", "results.jsonl"]] * 2
    assert find_runs(here / "runs") == []
    assert main(["report", "--json"]) == 0
    assert numbers(json.loads(capsys.readouterr().out)["data"]["rows"]) == expected


def test_by_hand_and_from_python(photos: Path, tiny_backbone: Backbone, here: Path) -> None:
    data, where = f"folder:{photos}", runtime(here / "runs")
    rows = evaluate_method("zeroshot", data, tiny_backbone, runtime=where)
    dataset = load_dataset(data)
    test = dataset.split("test")
    method = build_method("zeroshot", tiny_backbone, dataset.class_names, {"template": dataset.template})
    labels = Classifier(method)(test).labels_B.tolist()
    accuracy = sum(a == record.label for a, record in zip(labels, test, strict=True)) / len(test)
    assert {row.metric: row.value for row in rows}["top1"] == accuracy
    other = evaluate_method("zeroshot", data, tiny_backbone, runtime=where, options={"template": "an oil of {}"})
    assert other[0].setup["options.template"] == "an oil of {}" and other[0].run != rows[0].run
    assert len(list((here / "runs").iterdir())) == 2  # neither replaces the other


@pytest.mark.usefixtures("tiny_spec")
def test_names_and_templates_by_hand(
    photos: Path, tiny_backbone: Backbone, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "names.txt").write_text("red fox = fox | vixen\n")
    (here / "texts.txt").write_text("a drawing of a {}.\nthe {}\n")
    words = ["--templates", "texts.txt", "--aliases", "names.txt"]
    what = ["--method", "zeroshot", "--data", f"folder:{photos}", "--backbone", "tiny-vit"]
    rows = command(capsys, *what, *words)["data"]["rows"]
    names = [["fox", "vixen"] if name == "red fox" else [name] for name in sorted(NAMES)]
    assert ["fox", "vixen"] in names
    texts = [
        [f"{before}{n}{after}" for n in ns for before, after in (("a drawing of a ", "."), ("the ", ""))]
        for ns in names
    ]
    mean = [unit(tiny_backbone.text.encode_sentences(own)).sum(dim=0) for own in texts]
    test = load_dataset(f"folder:{photos}").split("test")
    transform = tiny_backbone.transform(train=False)
    images = torch.stack([transform(Image.open(record.image)) for record in test])
    with torch.no_grad():
        labels = (tiny_backbone.encode_image(images).global_Bd @ unit(torch.stack(mean)).T).argmax(dim=-1).tolist()
    right = [label == record.label for label, record in zip(labels, test, strict=True)]
    assert {row["metric"]: row["value"] for row in rows}["top1"] == pytest.approx(sum(right) / len(right))
    assert "fox | vixen" in rows[0]["setup"]["aliases"] and "the {}" in rows[0]["setup"]["templates"]


def test_what_is_measured_is_not_measured_again_unless_images_are_others(tiny_backbone: Backbone, here: Path) -> None:
    make_photos(here / "photos", splits={"train": 2, "test": 2})

    def measure(**more: Any) -> tuple[list[ResultRow], list[str]]:
        told = Hooked()
        rows = evaluate_method(
            "zeroshot", "folder:photos", tiny_backbone, runtime=runtime(here / "runs"), progress=told, **more
        )
        return rows, [text for text in told.messages if "measured before" in text]

    first, _ = measure()
    assert measure() == (first, ["1 cell was measured before (--force measures again)"])
    assert measure(force=True) == (first, [])
    (here / "photos/test/red_fox/0.png").unlink()
    again, told = measure()
    assert ({row.n for row in again}, told) == ({7}, [])
    (file,) = here.glob("runs/*/results.jsonl")
    assert {row.n for row in current(ResultStore(file).read().rows)} == {7}


def test_halves_of_the_classes_and_other_data(here: Path, photos: Path, tiny_backbone: Backbone) -> None:
    def measure(*suites: str, **more: Any) -> list[ResultRow]:
        return evaluate_method(
            "zeroshot", f"folder:{photos}", tiny_backbone, suites, runtime=runtime(here / "runs"), **more
        )

    rows = measure("base-to-new")
    assert {row.status for row in rows} == {"not_applicable"} and "--setting base-to-new" in rows[0].note
    rows = measure("base-to-new", setting="base-to-new")
    assert [(row.cell, row.status) for row in accuracies(rows)] == [(cell, "ok") for cell in ("base", "new", "h", "h")]
    prints = make_photos(here / "prints", splits={"test": 1}, seed=1)
    rows = measure("domain-generalization", companions={"domains": [f"folder:{prints}"]})
    assert [(row.cell, row.n) for row in accuracies(rows)] == [("source", 12), ("prints", 4), ("mean", 4)]


@pytest.mark.parametrize(
    ("flags", "code", "message", "hint"),
    [
        (
            ["--method", "coop"],
            2,
            "method 'coop' has to be trained",
            "vlmprompt train --method coop --data folder:x",
        ),
        (["--method", "linear_probe"], 2, "'linear_probe' has to be trained", "--shots 16 --seed 1; then 'vlmprompt"),
        (["--method", "zeroshot", "--method", "maple"], 2, "method 'maple' has to be trained", "vlmprompt train"),
        (["--method", "zero-shot"], 2, "zero-shot", "zeroshot"),
        (["runs/a", "--method", "zeroshot"], 2, "runs and --method exclude each other", "two commands"),
        (["--method", "zeroshot", "--no-reference"], 2, "--no-reference has no effect with --method", "leave it out"),
        (["runs/a", "--quick-gelu"], 2, "--quick-gelu has no effect on a run", "--method zeroshot"),
        (["runs/a", "--templates", "t.txt"], 2, "--templates has no effect on a run", "--method zeroshot"),
        (["runs/a", "--accept-split"], 2, "--accept-split has no effect on a run", "--method zeroshot"),
        (["--no-exif"], 2, "--exif has no effect on a run", "--method zeroshot"),
        (["--set", "template={}"], 2, "--set has no effect on a run", "--method zeroshot"),
        (["--method", "zeroshot", "--set", "templat=x"], 2, "'templat'", "'template'"),
        (["--method", "zeroshot"], 3, "x has no ", ""),
        (
            ["--method", "zeroshot", "--domain", "folder:x", "--suite", "accuracy"],
            2,
            "--domain has no effect",
            "--suite",
        ),
    ],
)
def test_what_does_not_go_together(
    flags: list[str], code: int, message: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("x").mkdir()
    assert main(["evaluate", *flags, "--data", "folder:x", *HERE, "--json"]) == code
    error = json.loads(capsys.readouterr().out)["error"]
    assert message in error["message"] and hint in (error["hint"] or ""), error
    assert not Path("runs").exists()


def test_what_has_no_effect_is_said(photos: Path, tiny_backbone: Backbone, descriptions: Path, here: Path) -> None:
    told = Hooked()
    where = runtime(here / "runs")
    data = f"folder:{photos}"
    evaluate_method("zeroshot", data, tiny_backbone, runtime=where, progress=told, descriptions=descriptions, views=3)
    assert told.warnings == [
        "method 'zeroshot' reads no descriptions: --descriptions has no effect on it",
        "method 'zeroshot' has no training loop: views has no effect",
    ]


@pytest.mark.usefixtures("tiny_spec")
def test_a_text_that_is_too_long_is_an_error_and_no_row(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    what = ["--method", "zeroshot", "--data", f"folder:{photos}", "--backbone", "tiny-vit"]
    said = command(capsys, *what, "--set", f"template={'very ' * 90}{{}}", code=3)["error"]
    assert "is too long" in said["message"] and "reads 77" in said["message"]
    assert not Path("runs").exists()


def test_from_python_what_has_to_be_trained_is_refused(tiny_backbone: Backbone, photos: Path) -> None:
    with pytest.raises(UsageError, match="method 'coop' has to be trained"):
        evaluate_method("coop", f"folder:{photos}", tiny_backbone)

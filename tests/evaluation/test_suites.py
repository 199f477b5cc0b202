"""The built-in suites on runs of known outcome."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.evaluation.material import accuracies, patches
from tests.evaluation.test_context import make_bank, make_context
from tests.training.material import config, make_photos, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.data.images import read_image
from vlmprompt.evaluation.images import Predictions
from vlmprompt.evaluation.runner import evaluate
from vlmprompt.evaluation.suites.accuracy import AccuracySuite, accuracy_measurement
from vlmprompt.results.rows import ResultRow
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run


def measure(run: Path, backbone: Backbone, suite: str, *, reference: bool = True) -> list[ResultRow]:
    """Evaluate one suite."""
    return evaluate(run, suite, runtime(run.parent), backbone=backbone, reference=reference)


def test_accuracy_counts() -> None:
    logits = torch.eye(7)[[0, 1, 2, 3, 3, 5]] * 20 - torch.arange(7)  # of the fifth: 3, 0, 1, 2, 4, 5, 6
    labels = torch.tensor([0, 1, 2, 3, 6, 5])
    seven = patches(7, 1, [])
    values = {v.metric: v for v in accuracy_measurement(Predictions(logits, labels), seven, top5=True).values}
    assert values["top1"].value == pytest.approx(5 / 6)
    assert values["top5"].value == pytest.approx(5 / 6)
    assert values["mean_per_class"].value == pytest.approx(5 / 6)
    assert values["ece_15"].value == pytest.approx(1 / 6, abs=0.01)
    assert not values["ece_15"].higher_is_better
    assert {v.n for v in values.values()} == {6}


@pytest.mark.parametrize(("classes", "has_top5"), [(5, False), (6, True)])
def test_top5_needs_more_than_five_classes(tiny_backbone: Backbone, classes: int, has_top5: bool) -> None:
    context = make_context(patches(classes, 1, []), make_bank(tiny_backbone))
    (cell,) = AccuracySuite().cells(context)
    assert [v.metric for v in cell.measure().values] == list(cell.metrics)
    assert ("top5" in cell.metrics) == has_top5


@pytest.fixture(scope="module")
def base_run(photos: Path, tiny_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on the base half: two of four classes."""
    settings = config(photos, shots=2, setting="base-to-new")
    return train(settings, runtime(tmp_path_factory.mktemp("base")), backbone=tiny_backbone).run


def test_halves_are_tested_in_their_own_label_space(base_run: Path, tiny_backbone: Backbone) -> None:
    measured = measure(base_run, tiny_backbone, "base-to-new", reference=False)
    rows = {r.metric if r.cell == "h" else r.cell: r for r in accuracies(measured)}
    assert list(rows) == ["base", "new", "h_of_means", "mean_of_h"]
    run = load_run(base_run)
    method, dataset = run.build_method(tiny_backbone), run.load_dataset(runtime(base_run.parent))
    expected = {}
    for half, labels in (("base", [0, 1]), ("new", [2, 3])):
        part = dataset.restrict(labels, suffix="")
        other = method.with_classes(part.class_names)
        transform = tiny_backbone.transform(train=False)
        right = 0
        for record in part.splits["test"]:
            logits = other(transform(read_image(record))[None]).logits
            assert logits.shape == (1, 2)
            right += int(logits.argmax()) == record.label
        expected[half] = right / 6
    assert (rows["base"].value, rows["base"].n) == (expected["base"], 6)
    assert (rows["new"].value, rows["new"].n) == (expected["new"], 6)
    b, n = expected["base"], expected["new"]
    assert rows["h_of_means"].value == rows["mean_of_h"].value == pytest.approx(2 * b * n / (b + n))
    assert rows["h_of_means"].n == 12


def test_a_method_without_new_classes_says_so(base_run: Path, tiny_backbone: Backbone) -> None:
    measured = measure(base_run, tiny_backbone, "base-to-new")
    rows = [r for r in accuracies(measured) if r.method == "linear_probe"]
    assert [(r.cell, r.status) for r in rows] == [
        ("base", "ok"),
        ("new", "not_applicable"),
        ("h", "not_applicable"),
        ("h", "not_applicable"),
    ]
    assert rows[1].note == "method linear_probe cannot serve classes that it was not trained on"


def test_a_run_on_all_classes_has_no_new_ones(trained: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    rows = measure(run, tiny_backbone, "base-to-new")
    assert {r.method for r in rows} == {"coop"}
    assert {r.status for r in rows} == {"not_applicable"}
    assert [r.metric for r in accuracies(rows)] == ["top1", "top1", "h_of_means", "mean_of_h"]
    assert "--method coop" in rows[0].note
    assert "--setting base-to-new" in rows[0].note


def test_accuracy_of_a_base_run_is_over_base_classes(base_run: Path, tiny_backbone: Backbone) -> None:
    rows = measure(base_run, tiny_backbone, "accuracy")
    halves = measure(base_run, tiny_backbone, "base-to-new")
    assert {r.cell for r in rows} == {"test-base"}
    for method in ("coop", "zeroshot", "linear_probe"):
        (top1,) = [r for r in rows if r.method == method and r.metric == "top1"]
        (base,) = [r for r in halves if r.method == method and r.cell == "base" and r.metric == "top1"]
        assert (top1.value, top1.n) == (base.value, base.n)


def test_validation_is_measured_on_the_val_split_alone(tiny_backbone: Backbone, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", splits={"train": 2, "val": 3, "test": 1})
    folder = train(config(photos, shots=2), runtime(tmp_path), backbone=tiny_backbone).run
    rows = {row.metric: row for row in measure(folder, tiny_backbone, "validation", reference=False)}
    run = load_run(folder)
    method, dataset = run.build_method(tiny_backbone), run.load_dataset(runtime(tmp_path))
    transform = tiny_backbone.transform(train=False)
    right = dict.fromkeys(range(4), 0)
    for record in dataset.splits["val"]:
        right[record.label] += int(method(transform(read_image(record))[None]).logits.argmax()) == record.label
    assert set(rows) == {"top1", "mean_per_class"}
    assert {(row.cell, row.n) for row in rows.values()} == {("val", 12)}
    assert rows["top1"].value == pytest.approx(sum(right.values()) / 12)
    assert rows["mean_per_class"].value == pytest.approx(sum(one / 3 for one in right.values()) / 4)


def test_a_row_of_validation_is_of_the_images_as_they_were(tiny_backbone: Backbone, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", splits={"train": 2, "val": 1, "test": 1})
    folder = train(config(photos, shots=2), runtime(tmp_path), backbone=tiny_backbone).run
    before = measure(folder, tiny_backbone, "validation", reference=False)
    image = next(path for path in (photos / "val").rglob("*") if path.is_file())
    Image.new("RGB", (31, 17)).save(image)
    after = measure(folder, tiny_backbone, "validation", reference=False)
    assert before[0].key != after[0].key


def test_data_without_validation_images_say_so(trained: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    rows = measure(run, tiny_backbone, "validation", reference=False)
    assert {row.status for row in rows} == {"not_applicable"}
    assert "has no val images" in rows[0].note


def curve(rows: list[ResultRow], method: str = "coop") -> dict[str, str]:
    """Cell -> status of a method."""
    return {r.cell: r.status for r in rows if r.method == method}


@pytest.fixture(scope="module")
def trained_runs(photos: Path, tiny_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of 1 and 2 shots, and some that differ in more."""
    folder = tmp_path_factory.mktemp("runs")

    def made(name: str, **changes: Any) -> None:
        train(config(photos, **changes), runtime(folder), out=folder / name, backbone=tiny_backbone)

    made("other-seed", shots=4, seed=2)
    made("other-setting", shots=4, setting="base-to-new")
    made("other-option", shots=4, n_ctx=3)
    made("other-rate", shots=4, lr=0.5)
    made("other-method", shots=4, method="linear_probe")
    for k in (1, 2):
        made(f"{k}-shot", shots=k, allow_fewer=k == 2)
    return folder


@pytest.fixture
def runs(trained_runs: Path, tmp_path: Path) -> dict[Any, Path]:
    """Number of shots -> a run of one's own, among the others."""
    folder = Path(shutil.copytree(trained_runs, tmp_path / "runs"))
    return {k: folder / f"{k}-shot" for k in (1, 2)}


def test_the_curve_is_made_of_runs_that_differ_in_shots_only(runs: dict[Any, Path], tiny_backbone: Backbone) -> None:
    rows = accuracies(measure(runs[2], tiny_backbone, "few-shot"))
    assert curve(rows) == {
        "1-shot": "ok",
        "2-shot": "ok",
        "4-shot": "missing",
        "8-shot": "missing",
        "16-shot": "missing",
    }
    assert [r.shots for r in rows if r.method == "coop"] == [1, 2, 4, 8, 16]
    assert {r.run for r in rows} == {"2-shot"}
    assert [r.note for r in rows if r.method == "coop"][:2] == ["measured on run 1-shot", ""]
    missing = {r.note for r in rows if r.status == "missing"}
    assert len(missing) == 1
    (note,) = missing
    assert note.startswith(
        "no run with 4, 8, 16 shots in the same folder of runs; to train it: vlmprompt train --method coop"
    )
    assert "--shots 4 --seed 1" in note
    assert note.endswith(" (and with 8, 16)")
    alone = {k: measure(run, tiny_backbone, "accuracy", reference=False)[0].value for k, run in runs.items()}
    assert [r.value for r in rows[:2]] == [alone[1], alone[2]]


def test_references_of_the_curve_go_where_it_goes(runs: dict[Any, Path], tiny_backbone: Backbone) -> None:
    rows = accuracies(measure(runs[1], tiny_backbone, "few-shot"))
    assert curve(rows, "zeroshot") == {"0-shot": "ok"}
    assert curve(rows, "linear_probe") == {"1-shot": "ok", "2-shot": "ok"}
    assert [r.shots for r in rows if r.method == "linear_probe"] == [1, 2]


def test_a_run_that_is_added_joins_the_curve(runs: dict[Any, Path], photos: Path, tiny_backbone: Backbone) -> None:
    before = measure(runs[2], tiny_backbone, "few-shot")
    train(config(photos, shots=4), runtime(runs[2].parent), out=runs[2].parent / "4-shot", backbone=tiny_backbone)
    train(config(photos, shots=None), runtime(runs[2].parent), out=runs[2].parent / "all", backbone=tiny_backbone)
    after = measure(runs[2], tiny_backbone, "few-shot")
    assert curve(after)["4-shot"] == "ok"
    assert list(curve(after))[-1] == "all-shot"
    assert [r for r in after if r.cell == "1-shot"] == [r for r in before if r.cell == "1-shot"]


def test_rows_say_which_state_was_measured(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    settings = config(photos, shots=2, epochs=2, validate_every=1, keep="best")
    run = load_run(train(settings, runtime(tmp_path), backbone=tiny_backbone).run)
    assert run.info.kept is not None
    measured, *references = evaluate(run, "accuracy", runtime(tmp_path), backbone=tiny_backbone)
    assert measured.note == run.info.kept.words and measured.note.startswith("the best state, after epoch ")
    assert measured.setup["train.keep"] == "best"
    assert all(row.note == "" for row in references if row.method != "coop")

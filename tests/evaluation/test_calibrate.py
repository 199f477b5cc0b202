"""A run's temperature: fitted on the images that it was not trained on, kept for its checkpoint, measured with."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from tests.evaluation.material import accuracies
from tests.training.material import CLASSES, Hooked, config, make_photos, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.data.images import read_image
from vlmprompt.data.records import Record
from vlmprompt.errors import InputError, UsageError
from vlmprompt.evaluation import calibrate as calibrate_module
from vlmprompt.evaluation.calibrate import SPLITS, calibrate
from vlmprompt.evaluation.classified import CALIBRATION
from vlmprompt.evaluation.runner import RESULTS_FILE, evaluate
from vlmprompt.predict.calibrated import CALIBRATION_FILE, Calibrated
from vlmprompt.results.details import FOLDER, Details
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import ResultStore, current
from vlmprompt.training.run import train
from vlmprompt.training.runs import Run, load_run


@pytest.fixture(scope="module")
def unsure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 train and 5 test images of each class, of which every third one lies in the folder of the next class."""
    photos = make_photos(tmp_path_factory.mktemp("unsure") / "photos", splits={"train": 14, "test": 5})
    for split, n in (("train", 14), ("test", 5)):
        for place in range(0, n, 3):
            images = [(photos / split / name / f"{place}.png") for name in CLASSES]
            contents = [image.read_bytes() for image in images]
            for image, content in zip(images, contents[1:] + contents[:1], strict=True):
                image.write_bytes(content)
    return photos


@pytest.fixture(scope="module")
def module_run(unsure: Path, tiny_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear probe with 4 shots."""
    settings = config(unsure, method="linear_probe", shots=4)
    return train(settings, runtime(tmp_path_factory.mktemp("runs")), backbone=tiny_backbone).run


@pytest.fixture
def run(module_run: Path, tmp_path: Path) -> Path:
    """A run folder of one's own."""
    return Path(shutil.copytree(module_run, tmp_path / module_run.name))


def logits_of(run: Run, backbone: Backbone, records: list[Record]) -> tuple[Tensor, Tensor]:
    """One image at a time, straight from the pixels."""
    method, transform = run.build_method(backbone), backbone.transform(train=False)
    with torch.no_grad():
        rows = [method(transform(read_image(record))[None]).logits.double() for record in records]
    return torch.cat(rows), torch.tensor([record.label for record in records])


def fitted(run: Path, backbone: Backbone, **more: Any) -> Calibrated:
    return calibrate(run, runtime(run.parent), backbone=backbone, **more)


def test_everything_by_hand(run: Path, tiny_backbone: Backbone) -> None:
    found = fitted(run, tiny_backbone)
    loaded = load_run(run)
    dataset = loaded.load_dataset()
    val = [record for record in dataset.splits["train"] if record.id in set(loaded.info.data.val_ids)]
    assert (found.split, found.n, found.val) == ("val", 16, tuple(record.id for record in val))
    assert set(found.val).isdisjoint(loaded.info.data.train_ids)
    logits, labels = logits_of(loaded, tiny_backbone, val)

    def nll(z: Tensor, y: Tensor, temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(z / temperature, y))

    least = minimize_scalar(lambda u: nll(logits, labels, math.exp(u)), bounds=(-9, 9), options={"xatol": 1e-9})
    assert found.temperature == pytest.approx(math.exp(least.x), rel=1e-4)
    assert found.before["nll"] == pytest.approx(nll(logits, labels, 1), rel=1e-5)
    assert found.after["nll"] == pytest.approx(nll(logits, labels, found.temperature), rel=1e-5)
    assert found.after["nll"] < found.before["nll"]
    other, right = logits_of(loaded, tiny_backbone, list(dataset.splits["test"]))
    assert found.test is not None and found.test.n == 20
    assert found.test.after["nll"] == pytest.approx(nll(other, right, found.temperature), rel=1e-5)
    assert found.before.keys() == found.test.after.keys() == set(CALIBRATION)
    own, test = ((z / found.temperature).softmax(dim=1).numpy() for z in (logits, other))
    scores = np.sort(1 - own[np.arange(16), labels.numpy()])
    for sets, place in zip(found.conformal, (None, 16, 14), strict=True):  # ceil(17 x .95), ceil(17 x .9) ...
        threshold = 1.0 if place is None else float(scores[place - 1])
        assert (sets.n, sets.test_n) == (16, 20) and sets.threshold == pytest.approx(threshold, rel=1e-5)
        held = 1 - test <= sets.threshold
        assert sets.coverage == held[np.arange(20), right.numpy()].mean()
        assert sets.mean_size == held.sum() / 20
    assert [sets.alpha for sets in found.conformal] == [0.05, 0.1, 0.2]
    assert found.conformal[0].mean_size == 4


def test_the_file_is_what_prediction_reads(run: Path, tiny_backbone: Backbone) -> None:
    progress = Hooked()
    found = fitted(run, tiny_backbone, progress=progress)
    file = run / CALIBRATION_FILE
    content = file.read_bytes()
    assert Calibrated.model_validate_json(content) == found
    said = json.loads(content)
    assert {"temperature", "split", "n", "before", "after", "checkpoint", "val"} <= said.keys()
    read = Calibrated.read(run, load_run(run).digest)
    assert read is not None and (read.temperature, read.split, read.n) == (found.temperature, "val", 16)
    assert fitted(run, tiny_backbone) == found and file.read_bytes() == content
    assert any("16 images; below 100" in text for text in progress.warnings)
    assert any("miss 5%: they hold all classes (19 would do)" in text for text in progress.warnings)


def test_evaluate_measures_at_the_temperature_only_when_asked(run: Path, tiny_backbone: Backbone) -> None:
    found = fitted(run, tiny_backbone)
    assert found.test is not None

    def measure(**more: Any) -> list[ResultRow]:
        return evaluate(run, "accuracy", runtime(run.parent), backbone=tiny_backbone, reference=["zeroshot"], **more)

    plain, at = measure(), measure(calibrated=True)
    own = {row.metric: row.value for row in plain if row.method == "linear_probe"}
    scaled = {row.metric: row.value for row in at if row.method == "linear_probe"}
    assert {name: own[name] for name in CALIBRATION} == found.test.before
    assert {name: scaled[name] for name in CALIBRATION} == found.test.after != found.test.before
    assert [row.value for row in accuracies(plain)] == [row.value for row in accuracies(at)]
    assert [row for row in plain if row.method == "zeroshot"] == [row for row in at if row.method == "zeroshot"]
    assert {row.setup.get("temperature") for row in at} == {f"{found.temperature:.6g}", None}
    still = {row.key for row in current(ResultStore(run / RESULTS_FILE).read().rows)}
    assert still == {row.key for row in (*plain, *at)} and len(still) == 3
    details = [Details.read(file) for file in (run / FOLDER).iterdir()]
    assert sorted(one.temperature or 0 for one in details) == [0, 0, found.temperature]


def test_another_temperature_takes_the_place_of_the_first(run: Path, tiny_backbone: Backbone) -> None:
    fitted(run, tiny_backbone)

    def measure(**more: Any) -> str:
        rows = evaluate(run, "accuracy", runtime(run.parent), backbone=tiny_backbone, reference=False, **more)
        return rows[0].key

    plain, first = measure(), measure(calibrated=True)
    file = run / CALIBRATION_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | {"temperature": 3.0}))
    second = measure(calibrated=True)
    assert {row.key for row in current(ResultStore(run / RESULTS_FILE).read().rows)} == {plain, second}
    assert {file.stem for file in (run / FOLDER).iterdir()} == {plain, second} and first != second


def test_a_temperature_is_of_one_checkpoint(run: Path, unsure: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no temperature was fitted") as nothing:
        evaluate(run, "accuracy", runtime(tmp_path), backbone=tiny_backbone, calibrated=True)
    assert nothing.value.hint == f"vlmprompt calibrate {run}"
    fitted(run, tiny_backbone)
    settings = config(unsure, method="linear_probe", shots=3)
    train(settings, runtime(tmp_path), out=run, force=True, backbone=tiny_backbone)
    assert (run / CALIBRATION_FILE).exists()
    with pytest.raises(InputError, match="another checkpoint") as other:
        evaluate(run, "accuracy", runtime(tmp_path), backbone=tiny_backbone, calibrated=True)
    assert "vlmprompt calibrate RUN" in str(other.value.hint)


@pytest.mark.parametrize("suite", ["few-shot", "ood", "prompts", "pointing"])
def test_suites_that_a_temperature_does_not_change(run: Path, tiny_backbone: Backbone, suite: str) -> None:
    fitted(run, tiny_backbone)
    with pytest.raises(UsageError, match=f"suite {suite} is not measured at a run's temperature"):
        evaluate(run, suite, runtime(run.parent), backbone=tiny_backbone, calibrated=True)


def test_without_validation_images(unsure: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    folder = train(config(unsure, method="linear_probe", shots=None), runtime(tmp_path), backbone=tiny_backbone).run
    with pytest.raises(InputError, match="no validation images") as none:
        fitted(folder, tiny_backbone)
    assert "--split test" in str(none.value.hint) and not (folder / CALIBRATION_FILE).exists()
    progress = Hooked()
    found = fitted(folder, tiny_backbone, split="test", progress=progress)
    assert (found.split, found.n, found.val, found.test, found.conformal) == ("test", 20, (), None, ())
    assert "what is then measured on them flatters" in progress.warnings[0]
    with pytest.raises(UsageError, match="not on 'train'"):
        fitted(folder, tiny_backbone, split="train")


def test_where_no_temperature_is_best_nothing_is_kept(
    run: Path, tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sure(logits: Tensor, labels: Tensor) -> float:
        return calibrate_module_fit(torch.nn.functional.one_hot(labels, 4).float(), labels)

    calibrate_module_fit = calibrate_module.fit_temperature
    monkeypatch.setattr(calibrate_module, "fit_temperature", sure)
    with pytest.raises(InputError, match="all 16 images are told right"):
        fitted(run, tiny_backbone)
    assert not (run / CALIBRATION_FILE).exists()


def test_a_file_that_cannot_be_written(run: Path, tiny_backbone: Backbone) -> None:
    (run / CALIBRATION_FILE).mkdir()
    with pytest.raises(InputError, match="cannot write"):
        fitted(run, tiny_backbone)
    assert [path for path in run.iterdir() if path.name.endswith("-part")] == []


def test_a_base_run_has_the_classes_that_it_knows(unsure: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    settings = config(unsure, method="linear_probe", shots=4, setting="base-to-new")
    folder = train(settings, runtime(tmp_path), backbone=tiny_backbone).run
    found = fitted(folder, tiny_backbone)
    assert (found.n, found.test and found.test.n) == (8, 10)
    rows = evaluate(folder, "base-to-new", runtime(tmp_path), backbone=tiny_backbone, calibrated=True, reference=False)
    base = {row.metric: row.value for row in rows if row.cell == "base"}
    assert found.test is not None and {name: base[name] for name in CALIBRATION} == found.test.after


def test_the_command_knows_the_same_splits() -> None:
    from vlmprompt.cli import calibrate as command

    assert command.SPLITS == SPLITS and command.SHOWN.keys() == set(CALIBRATION)


def test_a_damaged_file_is_told_with_what_the_command_can_do(run: Path, tiny_backbone: Backbone) -> None:
    (run / CALIBRATION_FILE).write_text('{"temperature": 0.0}')
    with pytest.raises(InputError, match="is damaged") as error:
        evaluate(run, "accuracy", backbone=tiny_backbone, calibrated=True, reference=False)
    assert error.value.hint is not None and "without --calibrated" in error.value.hint
    with pytest.raises(InputError, match="is damaged") as error:
        load_run(run).predict([], backbone=tiny_backbone)
    assert error.value.hint is not None and "--no-calibration" in error.value.hint

"""A run that predicts: by itself, without its data, and with thresholds of its own images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.material import CLASSES, config, make_photos, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.errors import CapabilityError, InputError, UsageError
from vlmprompt.evaluation.calibrate import calibrate as fit
from vlmprompt.methods.scores import ood_scores
from vlmprompt.predict.calibrated import CALIBRATION_FILE
from vlmprompt.predict.conformal import threshold_of
from vlmprompt.predict.thresholds import THRESHOLDS_FILE
from vlmprompt.progress import SilentProgress
from vlmprompt.training import predicting
from vlmprompt.training.predicting import Wishes, predictor_of
from vlmprompt.training.run import train
from vlmprompt.training.runs import Run, load_run

HERE = runtime(Path("runs"))


def validation(run: Run) -> list[Path]:
    """The files that the run's record names, in the order of the data set."""
    return [Path(run.config.data.removeprefix("folder:")) / one for one in sorted(run.info.data.val_ids)]


def calibrate(run: Run, **changes: Any) -> None:
    content = {"temperature": 2.0, "split": "val", "n": 12, "checkpoint": run.digest, "later": ["key"]} | changes
    (run.path / CALIBRATION_FILE).write_text(json.dumps(content))


def test_three_lines(finished: Path, photos: Path, tiny_backbone: Backbone) -> None:
    run = load_run(finished)
    said = run.predict(photos / "test/red_fox/0.png", top=2, runtime=HERE, backbone=tiny_backbone)
    with torch.no_grad():
        plain = run.classifier(tiny_backbone)(photos / "test/red_fox/0.png")
    assert said.names == plain.names and said.verdicts is None and len(said.top()[0]) == 2
    torch.testing.assert_close(said.probabilities_BK, plain.probabilities_BK)
    assert run.predict([], backbone=tiny_backbone, runtime=HERE).names == []


def test_towers_are_loaded_once(finished: Path, tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    run, loads = load_run(finished), []
    monkeypatch.setattr(Run, "load_backbone", lambda *args, **more: loads.append(1) or tiny_backbone)
    first = run.method(HERE)
    pixels = torch.zeros(3, 8, 8, dtype=torch.uint8)
    for _ in range(2):
        run.predict(pixels, runtime=HERE)
    assert run.method(HERE) is first and loads == [1] and run.frozen(HERE) is run.frozen(HERE)
    assert first.class_names == run.class_names
    assert load_run(finished) == run


def test_a_run_is_enough(run: Run, photos: Path, tmp_path: Path, tiny_backbone: Backbone) -> None:
    """Moved to another folder, its data set gone, a threshold kept: everything but a new threshold is there."""
    gone = shutil.copytree(photos, tmp_path / "photos")
    trained = train(config(gone, shots=3), runtime(tmp_path / "trained"), backbone=tiny_backbone).run
    here = load_run(trained)
    wishes: dict[str, Any] = {"reject": 0.9, "conformal": 0.2, "runtime": HERE, "backbone": tiny_backbone}
    picture = photos / "test/red_fox/0.png"
    before = here.predict(picture, **wishes)
    moved = Path(shutil.move(trained, tmp_path / "elsewhere" / "moved"))
    shutil.rmtree(gone)
    after = load_run(moved).predict(picture, **wishes)
    assert torch.equal(after.logits_BK, before.logits_BK)
    assert (after.verdicts, after.sets, after.rejection) == (before.verdicts, before.sets, before.rejection)
    with pytest.raises(InputError, match=r"run moved has not kept this threshold, .* cannot be read: there is no"):
        load_run(moved).predict(picture, **{**wishes, "reject": 0.95})


def test_the_threshold_is_that_of_the_validation_images(run: Run, tiny_backbone: Backbone) -> None:
    """12 images: 0.75 keeps the nine with the highest scores."""
    images = validation(run)
    assert len(images) == 12
    method = run.method(HERE, backbone=tiny_backbone)
    transform = tiny_backbone.transform(train=False)
    from vlmprompt.data.images import decode

    with torch.no_grad():
        output = method(torch.stack([transform(decode(path, "", upright=True)) for path in images]))
    scores = sorted(ood_scores(output, "mcm").tolist(), reverse=True)
    said = run.predict(images, reject=0.75, conformal=0.25, runtime=HERE, backbone=tiny_backbone)
    assert said.rejection is not None and said.rejection.threshold == pytest.approx(scores[8], abs=1e-7)
    assert said.verdicts is not None and said.verdicts.count("known") == 9
    labels = [CLASSES.index(path.parent.name) for path in images]
    order = [sorted(CLASSES).index(name) for name in CLASSES]
    true = output.logits.softmax(dim=1)[torch.arange(12), torch.tensor([order[label] for label in labels])]
    kept = json.loads((run.path / THRESHOLDS_FILE).read_text())
    assert kept["checkpoint"] == run.digest
    assert kept["rejection"] == [
        {"split": "val", "n": 12, "threshold": said.rejection.threshold, "score": "mcm", "keep": 0.75}
    ]
    assert kept["conformal"][0]["threshold"] == pytest.approx(threshold_of(true.numpy(), 0.25), abs=1e-6)
    assert said.sets is not None
    covered = sum(
        sorted(CLASSES)[order[label]].replace("_", " ") in names for label, names in zip(labels, said.sets, strict=True)
    )
    assert covered >= 9


def test_what_another_call_keeps_meanwhile_stays(
    run: Run, tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: dict[str, Any] = {"runtime": HERE, "backbone": tiny_backbone}
    set_by = predicting.OwnImages.thresholds

    def meanwhile(*args: Any, **more: Any) -> Any:
        monkeypatch.setattr(predicting.OwnImages, "thresholds", set_by)
        run.predict([], reject=0.5, conformal=0.5, **shares)
        return set_by(*args, **more)

    monkeypatch.setattr(predicting.OwnImages, "thresholds", meanwhile)
    run.predict([], reject=0.75, conformal=0.5, **shares)
    kept = json.loads((run.path / THRESHOLDS_FILE).read_text())
    assert [one["keep"] for one in kept["rejection"]] == [0.5, 0.75]
    assert [one["alpha"] for one in kept["conformal"]] == [0.5]


def test_thresholds_of_a_temperature_are_its_own(run: Run, photos: Path, tiny_backbone: Backbone) -> None:
    shares: dict[str, Any] = {"runtime": HERE, "backbone": tiny_backbone}
    picture = photos / "test/red_fox/0.png"
    plain = run.predict(picture, conformal=0.25, **shares)
    calibrate(run)
    warm = run.predict(picture, conformal=0.25, **shares)
    torch.testing.assert_close(warm.probabilities_BK, (plain.logits_BK / 2).softmax(dim=1))
    assert run.predict(picture, calibrated=False, **shares).temperature == 1.0
    kept = json.loads((run.path / THRESHOLDS_FILE).read_text())["conformal"]
    assert [one["temperature"] for one in kept] == [1.0, 2.0] and kept[0]["threshold"] != kept[1]["threshold"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoint": "another"}, "was fitted for another checkpoint"),
        ({"temperature": 0}, r"is damaged \(temperature"),
        ({"temperature": None}, r"is damaged \(temperature"),
        ({"split": "train"}, r"is damaged \(split"),
    ],
)
def test_a_calibration_that_is_not_the_runs(
    changes: dict[str, Any], message: str, run: Run, tiny_backbone: Backbone
) -> None:
    calibrate(run, **changes)
    with pytest.raises(InputError, match=message) as error:
        run.predict([], runtime=HERE, backbone=tiny_backbone)
    assert "vlmprompt calibrate" in str(error.value.hint) and "--no-calibration" in str(error.value.hint)
    assert len(run.predict([], calibrated=False, runtime=HERE, backbone=tiny_backbone)) == 0


def test_what_a_run_says_of_itself(run: Run, tiny_backbone: Backbone) -> None:
    class Spoken(SilentProgress):
        def __init__(self) -> None:
            super().__init__()
            self.lines: list[str] = []

        def message(self, text: str) -> None:
            self.lines.append(text)

    calibrate(run)
    told = Spoken()
    predictor_of(run, Wishes(reject=1.0, conformal=0.25), HERE, backbone=tiny_backbone, progress=told)
    assert told.lines[0] == "probabilities are calibrated: temperature 2, fitted on 12 validation images"
    assert told.lines[1].endswith(" on, which keeps at least 100 % of 12 validation images")
    assert told.lines[2] == "sets hold the right class of 75 % of pictures of known classes, as of 12 validation images"
    assert told.warnings == []
    (run.path / THRESHOLDS_FILE).unlink()
    (run.path / THRESHOLDS_FILE).mkdir()  # so that it cannot be written
    predictor_of(run, Wishes(reject=0.9), HERE, backbone=tiny_backbone, progress=told)
    assert len(told.warnings) == 1 and told.warnings[0].startswith("the threshold is not kept: cannot write")


def test_test_images_stand_in_and_neither_is_an_error(tmp_path: Path, tiny_backbone: Backbone) -> None:
    photos = make_photos(tmp_path / "photos", splits={"train": 3, "test": 2})
    run = load_run(train(config(photos, shots=3), runtime(tmp_path / "runs"), backbone=tiny_backbone).run)
    told = SilentProgress()
    predictor = predictor_of(run, Wishes(reject=0.9), HERE, backbone=tiny_backbone, progress=told)
    assert predictor.rejection is not None and predictor.rejection.reference.words == "8 test images"
    assert len(told.warnings) == 1 and "its test images set the threshold" in told.warnings[0]
    shutil.rmtree(photos / "test")
    (run.path / THRESHOLDS_FILE).unlink()
    with pytest.raises(InputError, match="neither validation nor test images") as error:
        predictor_of(run, Wishes(reject=0.9), HERE, backbone=tiny_backbone)
    assert "val or test" in str(error.value.hint)


def test_validation_images_that_are_gone_are_missed(photos: Path, tmp_path: Path, tiny_backbone: Backbone) -> None:
    own = shutil.copytree(photos, tmp_path / "photos")
    run = load_run(train(config(own, shots=3), runtime(tmp_path), backbone=tiny_backbone).run)
    validation(run)[0].unlink()
    with pytest.warns(UserWarning, match="^1 of 12 validation images of run .* are not among its data any more"):
        said = run.predict([], reject=0.9, runtime=HERE, backbone=tiny_backbone)
    assert said.rejection is not None and said.rejection.reference.n == 11
    shutil.rmtree(own / "val")
    shutil.rmtree(own / "test")
    with pytest.warns(UserWarning, match="^12 of 12"), pytest.raises(InputError, match="neither validation nor test"):
        run.predict([], reject=0.8, runtime=HERE, backbone=tiny_backbone)
    with pytest.warns(UserWarning, match="^12 of 12"), pytest.raises(InputError, match="has no test images of run"):
        fit(run, HERE, split="test", backbone=tiny_backbone)


def test_what_is_asked_for_wrongly(run: Run, tiny_backbone: Backbone) -> None:
    shares: dict[str, Any] = {"runtime": HERE, "backbone": tiny_backbone}
    for wrong in ({"reject": 1.5}, {"conformal": 0}, {"score": "mmc"}, {"top": 0}):
        with pytest.raises(UsageError):
            run.predict([], **wrong, **shares)
    assert not (run.path / THRESHOLDS_FILE).exists()


def test_a_score_that_the_method_cannot_give(photos: Path, tmp_path: Path, tiny_backbone: Backbone) -> None:
    probe = config(photos, method="linear_probe", shots=2)
    run = load_run(train(probe, runtime(tmp_path / "runs"), backbone=tiny_backbone).run)
    with pytest.raises(CapabilityError, match="score 'gl-mcm' cannot be had"):
        run.predict([], reject=0.9, score="gl-mcm", runtime=HERE, backbone=tiny_backbone)
    said = run.predict(photos / "test/red_fox/0.png", reject=0.9, score="msp", runtime=HERE, backbone=tiny_backbone)
    assert said.verdicts is not None and said.scores_B is not None
    assert float(said.scores_B[0]) == pytest.approx(float(said.probabilities_BK.max()))


def test_classes_of_a_half(photos: Path, tmp_path: Path, tiny_backbone: Backbone) -> None:
    """Base-to-new: validation images of the base half alone, labelled in its numbering."""
    half = config(photos, shots=2, setting="base-to-new")
    run = load_run(train(half, runtime(tmp_path / "runs"), backbone=tiny_backbone).run)
    said = run.predict(validation(run), reject=1.0, conformal=0.4, runtime=HERE, backbone=tiny_backbone)
    assert len(run.class_names) == 2 and said.verdicts == ["known"] * 4
    assert said.rejection is not None and said.rejection.reference.n == 4


def test_no_threshold_is_set_by_what_is_not_finite(run: Run, tiny_backbone: Backbone) -> None:
    method = run.method(HERE, backbone=tiny_backbone)
    with torch.no_grad():
        next(iter(method.parameters())).fill_(torch.nan)
    shares: dict[str, Any] = {"runtime": HERE, "backbone": tiny_backbone}
    for wish, what in (({"reject": 0.9}, "score mcm"), ({"conformal": 0.25}, "the probability")):
        with pytest.raises(InputError, match=f"{what} of .*png is not finite, so no threshold is set"):
            run.predict([], **wish, **shares)
    assert not (run.path / THRESHOLDS_FILE).exists()

"""The files of single images beside the results: there before the rows, replaced and removed with them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.material import Scripted, accuracies, fails, gives
from tests.evaluation.test_classified import said
from tests.evaluation.test_ood_suite import make_others
from tests.training.material import Hooked, config, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.claims.claim import claim
from vlmprompt.errors import InputError
from vlmprompt.evaluation.classified import CALIBRATION
from vlmprompt.evaluation.contract import Measurement, MetricValue
from vlmprompt.evaluation.ood_metrics import ood_metrics
from vlmprompt.evaluation.runner import RESULTS_FILE, evaluate
from vlmprompt.results.details import FOLDER, Details, details_file
from vlmprompt.results.ledger import Ledger
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import ResultStore
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A run folder of one's own."""
    return Path(shutil.copytree(trained, tmp_path / trained.name))


def measure(run: Path, backbone: Backbone | None, *suites: str, **more: Any) -> list[ResultRow]:
    """Evaluate without references."""
    return evaluate(run, suites, runtime(run.parent), backbone=backbone, **{"reference": False, **more})


def kept(run: Path) -> dict[str, Details]:
    """Key -> details, of all files."""
    return {file.stem: Details.read(file) for file in (run / FOLDER).iterdir()}


def test_a_file_says_of_each_image_what_the_rows_say_of_all(run: Path, tiny_backbone: Backbone) -> None:
    rows = measure(run, tiny_backbone, "accuracy", reference=True)
    found = kept(run)
    assert found.keys() == {row.key for row in rows} and len(found) == 3
    dataset = load_run(run).load_dataset()
    for key, details in found.items():
        own = {row.metric: row.value for row in rows if row.key == key}
        assert details.correct.mean() == own["top1"]
        assert details.calibration() == pytest.approx({name: own[name] for name in CALIBRATION}, abs=1e-6)
        assert (details.suite, details.cell, details.dataset) == ("accuracy", "test", dataset.spec)
        assert details.class_names == dataset.class_names and details.temperature is None
        assert details.ids == tuple(record.id for record in dataset.split("test"))
        assert details.label.tolist() == [record.label for record in dataset.split("test")]


def test_cells_of_other_label_spaces(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    settings = config(photos, shots=2, setting="base-to-new")
    folder = train(settings, runtime(tmp_path / "runs"), backbone=tiny_backbone).run
    rows = measure(folder, tiny_backbone, "base-to-new")
    found = {details.cell: details for details in kept(folder).values()}
    names = load_run(folder).load_dataset().class_names
    assert {cell: details.class_names for cell, details in found.items()} == {"base": names[:2], "new": names[2:]}
    top1 = {row.cell: row.value for row in rows if row.metric == "top1"}
    assert {cell: details.correct.mean() for cell, details in found.items()} == top1
    assert max(found["new"].label) == 1 and all(int(label) < 2 for label in found["new"].prediction)


def test_companions_have_files_and_their_mean_has_none(run: Path, photos: Path, tiny_backbone: Backbone) -> None:
    spec = f"folder:{photos}/test"
    rows = measure(run, tiny_backbone, "domain-generalization", companions={"domains": [spec]})
    found = {details.cell: details for details in kept(run).values()}
    assert found.keys() == {"source", "test"} and found["test"].dataset == spec
    values = {(row.cell, row.metric): row.value for row in rows}
    assert {cell for cell, _ in values} == {"source", "test", "mean"}
    for metric in CALIBRATION:
        assert values["mean", metric] == values["test", metric] is not None


def test_scores_of_other_images(run: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    others = [make_others(tmp_path, name, ["a"], n=4, seed=seed) for seed, name in enumerate(["noise", "more"])]
    rows = measure(run, tiny_backbone, "ood", companions={"ood": [f"folder:{other}" for other in others]})
    found = {details.cell: details for details in kept(run).values()}
    measured = {row.cell for row in rows if row.status == "ok"}
    assert {cell for cell in measured if not cell.startswith("mean/")} == found.keys()
    details = found["noise/msp"]
    assert (details.kind, details.companion, len(details)) == ("scores", f"folder:{others[0]}", 12 + 4)
    values = ood_metrics(details.inside["msp"].astype(np.float64), details.outside["msp"].astype(np.float64))
    assert values == {row.metric: row.value for row in rows if row.cell == "noise/msp"}


def test_the_file_is_there_before_the_rows(run: Path, tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[list[bool]] = []
    append = Ledger.append

    def look(self: Ledger, rows: list[ResultRow]) -> None:
        files = [details_file(self.store.path, row.key) for row in rows]
        there.append([file is not None and file.exists() for file in files])
        append(self, rows)

    monkeypatch.setattr(Ledger, "append", look)
    measure(run, tiny_backbone, "accuracy")
    assert there == [[True] * 7]


def test_without_its_file_a_cell_is_not_done(
    run: Path, tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Details, path: Path) -> None:
        raise InputError(f"cannot write {path}: No space left on device")

    with monkeypatch.context() as patch, pytest.raises(InputError, match="No space left"):
        patch.setattr(Details, "write", full)
        measure(run, tiny_backbone, "accuracy")
    assert not (run / RESULTS_FILE).exists()
    measure(run, tiny_backbone, "accuracy")
    assert len(kept(run)) == 1


def test_a_suite_may_say_nothing_of_images(run: Path, tiny_backbone: Backbone, scripted: type[Scripted]) -> None:
    scripted.cells_by_name = {"a": gives(0.25), "b": lambda: Measurement([MetricValue("top1", 0.5, 3)])}  # type: ignore[dict-item]
    assert [row.value for row in measure(run, tiny_backbone, "scripted")] == [0.25, 0.5]
    assert not (run / FOLDER).exists()


def test_force_replaces_the_file(run: Path, tiny_backbone: Backbone) -> None:
    (row, *_) = measure(run, tiny_backbone, "accuracy")
    file = run / FOLDER / f"{row.key}.safetensors"
    before = file.read_bytes()
    file.write_bytes(b"damaged")
    measure(run, None, "accuracy")  # what is done is left alone
    assert file.read_bytes() == b"damaged"
    measure(run, tiny_backbone, "accuracy", force=True)
    assert file.read_bytes() == before


def test_a_file_of_numbers_that_are_gone_goes(run: Path, tiny_backbone: Backbone, scripted: type[Scripted]) -> None:
    details = said([[1.0, 2.0]], [0])
    scripted.cells_by_name = {"a": lambda: Measurement([MetricValue("top1", 0.0, 1)], details)}  # type: ignore[dict-item]
    (row,) = measure(run, tiny_backbone, "scripted")
    assert kept(run).keys() == {row.key}
    scripted.cells_by_name = {"a": fails(InputError("no more"))}
    (failed,) = measure(run, tiny_backbone, "scripted", force=True)
    assert (failed.key, failed.status) == (row.key, "failed") and not kept(run)


def test_files_of_earlier_numbers_are_removed(
    run: Path, tiny_backbone: Backbone, scripted: type[Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version of the code gives other keys: its numbers stand in place of the old ones."""
    first = measure(run, tiny_backbone, "accuracy", reference=["zeroshot"])
    other = measure(run, tiny_backbone, "base-to-new")  # whose rows still hold
    monkeypatch.setattr("vlmprompt.evaluation.keys._code", lambda method, suite: {"vlmprompt": "next"})
    second = measure(run, tiny_backbone, "accuracy")
    old = {row.key for row in first if row.method == "coop"}
    beside = {row.key for row in first if row.method == "zeroshot"}
    assert old.isdisjoint(row.key for row in second)
    assert kept(run).keys() == {row.key for row in second} | beside
    assert {row.status for row in other} == {"not_applicable"}
    stored = {row.key for row in ResultStore(run / RESULTS_FILE).read().rows}
    assert stored >= old | beside  # of numbers nothing is removed


def test_a_file_that_others_are_at_stays(run: Path, tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    first = measure(run, tiny_backbone, "accuracy")
    monkeypatch.setattr("vlmprompt.evaluation.keys._code", lambda method, suite: {"vlmprompt": "next"})
    with claim(run, first[0].key, "the same cell"):
        second = measure(run, tiny_backbone, "accuracy")
    assert kept(run).keys() == {first[0].key, second[0].key}


def test_metrics_that_are_new_are_told_before_they_are_measured(run: Path, tiny_backbone: Backbone) -> None:
    measure(run, tiny_backbone, "accuracy")
    file = run / RESULTS_FILE
    before = [line for line in file.read_text().splitlines() if '"aurc"' not in line and '"nll"' not in line]
    file.write_text("\n".join(before) + "\n")
    progress = Hooked()
    rows = measure(run, tiny_backbone, "accuracy", progress=progress)
    assert progress.messages[0] == "1 cell was measured before without nll, aurc: measured again"
    assert len(rows) == 7 and len(accuracies(rows)) == 2
    again = Hooked()
    measure(run, None, "accuracy", progress=again)
    assert again.messages == ["1 cell was measured before (--force measures again)"]


def test_what_failed_is_tried_again_without_a_word(
    run: Path, tiny_backbone: Backbone, scripted: type[Scripted]
) -> None:
    scripted.cells_by_name = {"a": fails(InputError("not now"))}
    measure(run, tiny_backbone, "scripted")
    scripted.cells_by_name = {"a": gives(0.5)}
    progress = Hooked()
    assert measure(run, tiny_backbone, "scripted", progress=progress)[0].value == 0.5
    assert progress.messages == []


def test_details_that_do_not_fit_together_fail_their_cell_alone(
    run: Path, tiny_backbone: Backbone, scripted: type[Scripted]
) -> None:
    wrong = replace(said([[1.0, 2.0]], [0]), label=np.zeros(2, dtype=np.int32))
    scripted.cells_by_name = {
        "a": lambda: Measurement([MetricValue("top1", 0.0, 1)], wrong),  # type: ignore[dict-item]
        "b": gives(0.5),
    }
    rows = measure(run, tiny_backbone, "scripted")
    assert [(row.status, row.value) for row in rows] == [("failed", None), ("ok", 0.5)]
    assert "label is not of 1 images" in rows[0].note and not (run / FOLDER).exists()

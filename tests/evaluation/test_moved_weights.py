"""A run over a file of weights can be given away: the file may lie anywhere, its digest decides."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from tests.tiny_architectures import TINY_CONFIG
from tests.training.material import config, make_photos, runtime
from vlmprompt.cli.main import main
from vlmprompt.errors import InputError
from vlmprompt.evaluation.runner import evaluate
from vlmprompt.training.run import train
from vlmprompt.training.runs import Run, load_run


def weights(path: Path, seed: int) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        save_file(open_clip.model.CLIP(**TINY_CONFIG).state_dict(), path)
    return path


@pytest.fixture
def run(tiny_architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Trained on weights by a relative path."""
    photos = make_photos(tmp_path / "photos", splits={"train": 3, "test": 2})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    weights(Path("w.safetensors"), 1)
    settings = config(photos, backbone="tiny-x-quickgelu/w.safetensors", epochs=1)
    return load_run(train(settings, runtime(tmp_path / "runs")).run)


def test_where_the_weights_were_is_recorded(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = json.loads((run.path / "run.json").read_text())["backbone"]
    assert recorded["file"] == str(tmp_path / "here" / "w.safetensors")
    monkeypatch.chdir(tmp_path)
    assert run.load_backbone().digest == recorded["digest"]


def test_weights_that_lie_elsewhere_now(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = tmp_path / "moved.safetensors"
    shutil.move(tmp_path / "here" / "w.safetensors", moved)
    with pytest.raises(InputError, match=r"there is no file w\.safetensors") as error:
        run.load_backbone()
    assert "--backbone" in str(error.value.hint)
    spec = f"tiny-x-quickgelu/{moved}"
    assert run.load_backbone(spec=spec).digest == run.info.backbone.digest
    rows = evaluate(run, "accuracy", runtime(tmp_path), backbone=spec)
    assert {row.status for row in rows} == {"ok"} and {row.method for row in rows} >= {"coop", "zeroshot"}
    assert main(["evaluate", str(run.path), "--backbone", spec, "--no-reference", "--force", "--json"]) == 0


def test_other_weights_are_refused(run: Run, tmp_path: Path) -> None:
    """Also where the run's own row is there already, and only a reference is measured."""
    evaluate(run, "accuracy", runtime(tmp_path), reference=False)
    other = f"tiny-x-quickgelu/{weights(tmp_path / 'other.safetensors', 2)}"
    with pytest.raises(InputError, match=f"are not those that run {run.name} was trained on") as error:
        run.load_backbone(spec=other)
    assert "--backbone SPEC" in str(error.value.hint)
    rows = evaluate(run, "accuracy", runtime(tmp_path), backbone=other)
    assert {row.method: row.status for row in rows if row.method != "linear_probe"} == {
        "coop": "ok",
        "zeroshot": "failed",
    }

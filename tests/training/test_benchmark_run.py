"""Runs on a benchmark data set: what its split, its protocol and --accept-split leave in the run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.benchmark_trees import LAYOUTS, write_tree
from tests.training.material import config, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.resolve import resolve
from vlmprompt.data.fewshot import sample
from vlmprompt.data.load import load_dataset
from vlmprompt.errors import InputError
from vlmprompt.evaluation.runner import evaluate
from vlmprompt.training.run import train
from vlmprompt.training.runs import Run, load_run


@pytest.fixture
def go(tiny_backbone: Backbone, tmp_path: Path) -> Any:
    for name in ("ucf101", "fgvc_aircraft"):
        write_tree(tmp_path, name)
    place = runtime(tmp_path / "runs").model_copy(update={"root": tmp_path})

    def act(data: str, **changes: Any) -> Run:
        settings = config(tmp_path, data=data, shots=2, **{"accept_split": True, **changes})
        return load_run(train(settings, place, backbone=tiny_backbone).run)

    act.place = place  # type: ignore[attr-defined]
    return act


def test_an_accepted_split_is_recorded(go: Any, tmp_path: Path, tiny_backbone: Backbone) -> None:
    with pytest.raises(InputError, match="not the published file"):
        go("coop:ucf101", accept_split=False)
    run = go("coop:ucf101")
    content = json.loads((run.path / "run.json").read_text())
    assert content["config"]["accept_split"] is True
    file = tmp_path / LAYOUTS["ucf101"].split
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert content["data"]["notes"]["split"] == {"files": {file.name: digest}, "verified": "accepted"}
    assert content["data"]["template"] == "a photo of a person doing {}."
    assert any("is not the published one" in text for text in content["data"]["notes"]["warnings"])
    rows = evaluate(run, "accuracy", go.place, reference=["zeroshot"], backbone=tiny_backbone)
    assert {row.dataset for row in rows} == {"ucf101"} and all(row.status == "ok" for row in rows)


def test_the_protocol_of_gallops_code(go: Any, tmp_path: Path) -> None:
    run = go("coop:fgvc_aircraft", protocol="gallop-code")
    assert run.name == "coop-fgvc_aircraft-tiny-vit-2shot-seed1-gallop-code"
    dataset = load_dataset("coop:fgvc_aircraft", root=tmp_path, accept_split=True, protocol="gallop-code")
    assert len(dataset.split("train")) == 12 and "val" not in dataset.splits
    drawn = sample(dataset, 2, 1, sampler="gallop")
    assert run.info.data.train_ids == tuple(record.id for record in drawn.train)
    assert run.info.data.train_ids != go("coop:fgvc_aircraft").info.data.train_ids
    assert run.info.data.val_source.startswith("train images beyond the shots")
    assert not set(run.info.data.val_ids) & set(run.info.data.train_ids)
    assert run.load_dataset(go.place).digest == dataset.digest


def test_raw_class_names_reach_the_text_tower(go: Any, tiny_backbone: Backbone) -> None:
    flags = {"method": "coop", "data": "coop:ucf101", "backbone": "tiny-vit"}
    options = resolve({**flags, "protocol": "gallop-code"}, env={}).run.options
    run = go("coop:ucf101", protocol="gallop-code", keep_underscores=options["keep_underscores"])
    written = tiny_backbone.text.class_tokens(["Apply_Eye_Makeup", "Yo_Yo"], keep_underscores=True)
    assert run.build_method(tiny_backbone).classes == written
    assert go("coop:ucf101").build_method(tiny_backbone).classes != written

"""What a notebook shows of our objects: a line or two, whatever they hold."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.describe.material import write_descriptions
from tests.training.material import config, make_photos, runtime
from vlmprompt import api
from vlmprompt.api import Backbone, ResultRow, VisualPrompts, build_method, evaluate, load_dataset, load_run
from vlmprompt.describe.library import DescriptionFile
from vlmprompt.training.run import train

MANY = [f"thing {i}" for i in range(2000)]


@pytest.fixture(scope="module")
def run(tiny_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> api.Run:
    folder = tmp_path_factory.mktemp("shown")
    photos = make_photos(folder / "photos", splits={"train": 5, "test": 2})
    return load_run(train(config(photos, epochs=1), runtime(folder / "runs"), backbone=tiny_backbone).run)


def test_the_objects_of_a_run(run: api.Run, tiny_backbone: Backbone, tmp_path: Path) -> None:
    spec = run.config.data
    assert repr(run) == f"Run('{run.path}': coop on {spec}, 4 classes, tiny-vit, finished)"
    assert repr(run.info) == f"RunInfo('{run.name}', finished, 12 training images, 3 steps)"
    assert repr(load_dataset(spec)) == f"Dataset('{spec}', 4 classes, train 20, test 8)"
    assert repr(tiny_backbone) == "Backbone('tiny-vit', cpu)"
    assert repr(tiny_backbone.text) == "TextEngine(77 positions, 3 layers of width 64)"
    assert repr(run.build_method(tiny_backbone)) == "CoOp(4 classes, 128 to learn, tiny-vit)"
    assert repr(run.classifier(tiny_backbone)) == "Classifier(CoOp(4 classes, 128 to learn, tiny-vit))"
    (row, *_) = evaluate(run, "accuracy", runtime(tmp_path), reference=False, backbone=tiny_backbone)
    assert repr(row) == f"ResultRow(coop on photos: accuracy test top1 = {row.value:.4g}, run '{run.name}')"
    assert repr(row.model_copy(update={"value": None, "status": "failed"})).endswith(f"failed, run '{run.name}')")
    file = DescriptionFile.read(write_descriptions(tmp_path / "d.jsonl"))
    assert repr(file) == f"DescriptionFile('{tmp_path / 'd.jsonl'}', 8 descriptions)"


def test_tensors_are_shown_by_their_shapes(tiny_backbone: Backbone) -> None:
    method = build_method("gallop", tiny_backbone, MANY[:5], {"topk": [1, 2]})
    features = method.encode_images(torch.zeros(2, 3, 32, 32))
    output = method(features)
    assert repr(features) == "ImageFeatures(global_Bd=(2, 32), local_BNc=(2, 16, 96), extra={}, prompts_BLC=None)"
    assert repr(method.frozen_text()) == "TextFeatures(features_PKd=(6, 5, 32))"
    assert repr(output.local) == "LocalView(features_BNd=(2, 16, 32), classes=(5, 32))"
    assert "logits=(2, 5)" in repr(output) and "'local_topk_BKn': (2, 5, 2)" in repr(output)
    loss = method.loss(output, torch.tensor([0, 1]))
    parts = f"'global': {loss.parts['global'].item():.4g}, 'local': {loss.parts['local'].item():.4g}"
    assert repr(loss) == f"Losses(total={loss.total.item():.4g}, parts={{{parts}}}, compared={{}})"
    assert repr(method.text_prompts()).startswith("TextPrompts(ctx=(6, 4, 64), scope='shared', deep={}")
    assert repr(VisualPrompts({0: torch.zeros(4, 96)})) == "VisualPrompts({0: (4, 96)})"
    assert repr(method.frozen()).count("\n") == 0


def test_none_grows_with_what_it_holds(tiny_backbone: Backbone) -> None:
    tokens = tiny_backbone.text.class_tokens(MANY)
    assert repr(tokens) == "ClassTokens(2000 classes)"
    data = dataclasses.replace(load_dataset("doodles"), class_names=tuple(MANY))
    assert len(repr(data)) < 100
    for name in ("maple", "bloom", "promptsrc", "cocoop"):
        shown = repr(build_method(name, tiny_backbone, MANY[:5]))
        assert len(shown) < 100 and "\n" not in shown
    assert len(repr(ResultRow.model_construct(**dict.fromkeys(ResultRow.model_fields, "x") | {"value": None}))) < 200

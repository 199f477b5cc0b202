"""Runs found again: by folder, the newest, with their data, towers and method."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import open_clip
import pytest
import torch

from tests.training.material import CLASSES, config, make_photos, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.load import load_backbone
from vlmprompt.errors import InputError
from vlmprompt.training.folder import run_name
from vlmprompt.training.run import train
from vlmprompt.training.runs import Run, find_runs, load_run, newest_run


@pytest.fixture
def run(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> Run:
    return load_run(train(config(photos), runtime(tmp_path / "runs"), backbone=tiny_backbone).run)


def test_the_method_is_the_trained_one(run: Run, tiny_backbone: Backbone) -> None:
    method = run.build_method(tiny_backbone)
    assert not method.training and method.class_names == run.class_names
    again = load_run(run.path).build_method(tiny_backbone)
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(method(images).logits, again(images).logits)
    assert not torch.equal(method.ctx, torch.zeros_like(method.ctx))
    assert run.digest == hashlib.sha256((run.path / "checkpoint.safetensors").read_bytes()).hexdigest()


def test_other_towers_are_refused(run: Run, tiny_resnet: Backbone) -> None:
    with pytest.raises(InputError, match="not those that run coop-photos"):
        run.build_method(tiny_resnet)


def test_zero_shot_speaks_in_the_template_of_its_data(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    found = load_run(train(config(photos, method="zeroshot"), runtime(tmp_path), backbone=tiny_backbone).run)
    data = found.info.data.model_copy(update={"template": "a drawing of a {}."})
    changed = Run(found.path, found.info.model_copy(update={"data": data}))
    text = changed.build_method(tiny_backbone).frozen_text()
    expected = tiny_backbone.text.encode_template("a drawing of a {}.", found.class_names)
    assert text is not None
    assert torch.allclose(text.unit_PKd[0], torch.nn.functional.normalize(expected, dim=-1), atol=1e-6)


def test_the_data_are_those_of_the_training(tiny_backbone: Backbone, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", splits={"train": 3, "test": 2})
    found = load_run(train(config(photos, setting="base-to-new"), runtime(tmp_path), backbone=tiny_backbone).run)
    assert len(found.load_dataset().class_names) == 4 and len(found.class_names) == 2
    (photos / "test" / CLASSES[0] / "0.png").unlink()
    assert len(found.load_dataset().split("test")) == 7  # other images of the same classes
    shutil.copytree(photos / "train" / CLASSES[0], photos / "train" / "another")
    with pytest.raises(InputError, match=r"has other classes than when run .* was trained") as error:
        found.load_dataset()
    assert error.value.hint and "--data SPEC" in error.value.hint


def test_images_that_were_trained_on_are_no_test_images(tiny_backbone: Backbone, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", splits={"train": 2, "test": 2})
    found = load_run(train(config(photos, shots=1), runtime(tmp_path), backbone=tiny_backbone).run)
    drawn = found.info.data.train_ids[0]
    shutil.copy(photos / drawn, photos / drawn.replace("train/", "test/").replace(".png", "-again.png"))
    with pytest.raises(
        InputError, match=rf"1 image is among the test images of .* such as {drawn} \(seen in training\)"
    ):
        found.load_dataset()


def test_the_backbone_is_built_again(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random architecture by name: same seed, same weights; others are noticed."""
    folder = tmp_path / "architectures"
    folder.mkdir()
    (folder / "Tiny-Test.json").write_text(
        '{"embed_dim": 32, "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},'
        ' "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}}'
    )
    open_clip.add_model_config(folder)
    settings = config(photos, backbone="Tiny-Test", random_weights=4)
    torch.manual_seed(123)
    state = torch.get_rng_state()
    found = load_run(train(settings, runtime(tmp_path / "runs")).run)
    assert torch.equal(torch.get_rng_state(), state)
    assert found.build_method(found.load_backbone()).class_names == found.class_names
    assert found.load_backbone().digest == load_backbone("Tiny-Test", random_weights=4).digest
    other = found.config.model_copy(update={"random_weights": 5})
    with pytest.raises(InputError, match="'Tiny-Test' are not those"):
        Run(found.path, found.info.model_copy(update={"config": other})).load_backbone()


def test_newest(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    place = runtime(tmp_path / "runs")
    with pytest.raises(InputError, match="no finished run") as error:
        newest_run(place.runs_dir)
    assert "vlmprompt train" in str(error.value.hint)
    made = [train(config(photos, method="zeroshot", seed=s), place, backbone=tiny_backbone).run for s in (1, 2, 3, 4)]
    for age, path in enumerate(made):
        os.utime(path / "run.json", ns=(0, 10**18 - age * 10**9))
    unfinished = load_run(made[0]).info.model_copy(update={"status": "running"})
    unfinished.write(made[0])
    (made[1] / "run.json").write_text("{")
    assert [found.path for found in find_runs(place.runs_dir)] == made[2:]
    assert newest_run(place.runs_dir) == made[2]


def test_what_is_no_run(run: Run) -> None:
    with pytest.raises(InputError, match="is not a run") as error:
        load_run(run.path.parent)
    assert run.name in str(error.value.hint)
    with pytest.raises(InputError, match="is not a run"):
        load_run("nowhere")
    (run.path / "checkpoint.safetensors").unlink()
    with pytest.raises(InputError, match="no readable checkpoint"):
        _ = run.digest


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "coop-pets-tiny-vit-3shot-seed1"),
        ({"backbone": "ViT-B-16-quickgelu/openai"}, "coop-pets-ViT-B-16-quickgelu-openai-3shot-seed1"),
        ({"backbone": "RN50//data/my weights.pt", "shots": None}, "coop-pets-RN50-my_weights-allshots-seed1"),
        ({"backbone": "hf-hub:org/name"}, "coop-pets-org-name-3shot-seed1"),
        ({"backbone": "RN50", "random_weights": 0, "setting": "base-to-new", "seed": 7},
         "coop-pets-RN50-random0-3shot-seed7-base-to-new"),
    ],
)  # fmt: skip
def test_names(changes: dict[str, object], name: str) -> None:
    assert run_name(config(Path("x"), **changes), "pets") == name


def test_a_run_is_evaluated_the_way_it_was_trained(tiny_backbone: Backbone, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", splits={"train": 3, "test": 2})
    for exif in (True, False):
        found = load_run(train(config(photos, exif=exif), runtime(tmp_path), backbone=tiny_backbone).run)
        assert found.name == "coop-photos-tiny-vit-3shot-seed1" + ("" if exif else "-no-exif")
        assert {record.upright for record in found.load_dataset().split("test")} == {exif}


def without_exif(run: Path) -> None:
    """As an older version wrote it."""
    content = json.loads((run / "run.json").read_text())
    del content["config"]["exif"]
    (run / "run.json").write_text(json.dumps(content))


def test_runs_of_older_versions_saw_pictures_as_they_are_stored(tiny_backbone: Backbone, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", splits={"train": 3, "test": 2})
    path = train(config(photos, exif=False), runtime(tmp_path), backbone=tiny_backbone).run
    without_exif(path)
    found = load_run(path)
    assert found.config.exif is False
    assert not any(record.upright for record in found.load_dataset().split("test"))


def test_where_nothing_was_ever_turned_an_old_run_is_what_a_new_one_would_be(
    tiny_backbone: Backbone, tmp_path: Path
) -> None:
    settings = config(tmp_path, data="doodles-food", shots=1, max_steps=1)
    path = train(settings, runtime(tmp_path), backbone=tiny_backbone).run
    without_exif(path)
    assert load_run(path).config == settings
    assert train(settings, runtime(tmp_path), backbone=tiny_backbone).run == path  # done already

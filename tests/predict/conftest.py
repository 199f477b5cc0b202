"""Photos and a trained run that tests of prediction share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.training.material import config, make_photos, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.training.run import train
from vlmprompt.training.runs import Run, load_run


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 classes, 4 train, 5 val and 3 test images each."""
    return make_photos(tmp_path_factory.mktemp("predict") / "photos", splits={"train": 4, "val": 5, "test": 3})


@pytest.fixture(scope="session")
def finished(photos: Path, tiny_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a CoOp run with 3 shots, and so with 3 validation images a class."""
    runs = tmp_path_factory.mktemp("finished") / "runs"
    return train(config(photos, shots=3, exif=True), runtime(runs), backbone=tiny_backbone).run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Run:
    """A copy of it, to be written into."""
    return load_run(shutil.copytree(finished, tmp_path / "runs" / "mine"))

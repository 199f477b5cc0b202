"""Trained runs that are looked into; copy one before anything is written into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.material import config, make_photos, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.training.run import train
from vlmprompt.training.runs import Run, load_run


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 classes, 4 train and 5 test images each."""
    return make_photos(tmp_path_factory.mktemp("explain") / "photos", splits={"train": 4, "test": 5})


@pytest.fixture(scope="session")
def coop_run(photos: Path, tiny_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """CoOp after 9 steps on a tiny ViT; about half of its answers are right."""
    return load_run(
        train(config(photos, shots=2), runtime(tmp_path_factory.mktemp("coop")), backbone=tiny_backbone).run
    )


@pytest.fixture(scope="session")
def gallop_run(photos: Path, tiny_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """GalLoP with scales 1, 5 and 16 of 16 patches."""
    settings = config(photos, method="zeroshot", epochs=1, shots=2).model_copy(update={"method": "gallop"})
    settings = settings.model_copy(update={"options": {"topk": [1, 5, 16]}})
    return load_run(train(settings, runtime(tmp_path_factory.mktemp("gallop")), backbone=tiny_backbone).run)

"""Photos and trained runs that evaluation tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.evaluation.material import Scripted, register_suites, withdraw_suites
from tests.training.material import config, make_photos, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.training.run import train


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 classes, 6 train and 3 test images each."""
    return make_photos(tmp_path_factory.mktemp("evaluation") / "photos", splits={"train": 6, "test": 3})


@pytest.fixture(scope="session")
def trained(photos: Path, tiny_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a CoOp run with 2 shots; copy it before anything is written into it."""
    runs = tmp_path_factory.mktemp("trained")
    return train(config(photos, shots=2), runtime(runs), backbone=tiny_backbone).run


@pytest.fixture
def scripted() -> Iterator[type[Scripted]]:
    """The suites "scripted" and "broken"."""
    register_suites()
    Scripted.cells_by_name, Scripted.runs = {}, []
    yield Scripted
    withdraw_suites()

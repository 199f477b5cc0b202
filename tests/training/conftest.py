"""Photos that training tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.material import make_photos


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 classes, 5 train and 2 test images each, no val split."""
    return make_photos(tmp_path_factory.mktemp("data") / "photos", splits={"train": 5, "test": 2})

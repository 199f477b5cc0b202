"""Images of the test split among those to be trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.training.material import CLASSES, config, make_photos, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.errors import InputError
from vlmprompt.training.run import train


def test_nothing_is_trained_on_an_overlap_unless_it_is_accepted(tmp_path: Path, tiny_backbone: Backbone) -> None:
    photos = make_photos(tmp_path / "photos", splits={"train": 2, "test": 1})
    shutil.copy(photos / "test" / CLASSES[0] / "0.png", photos / "train" / CLASSES[1] / "other.png")
    with pytest.raises(InputError, match=r"1 image is in more than one split .*red_fox/0\.png \(test\)"):
        train(config(photos, shots=1), runtime(tmp_path / "runs"), backbone=tiny_backbone)
    assert not (tmp_path / "runs").exists()
    accepted = config(photos, shots=1, epochs=1, allow_overlap=True)
    run = train(accepted, runtime(tmp_path / "runs"), backbone=tiny_backbone).run
    info = json.loads((run / "run.json").read_text())
    assert info["config"]["allow_overlap"] is True
    assert info["data"]["notes"]["overlap"]["images"] == 1 and info["data"]["notes"]["overlap"]["why"] == "accepted"

"""`vlmprompt cache features`: what is stored, and making it smaller."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.backbones.stored_images import tints
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.extraction import PlainReader
from vlmprompt.backbones.features import extract
from vlmprompt.backbones.types import ImageNeeds
from vlmprompt.cli.main import main
from vlmprompt.config.models import Runtime


@pytest.fixture
def stored(tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Features in the folder where they are if nobody names one."""
    monkeypatch.setenv("VLMPROMPT_CACHE_DIR", str(tmp_path))
    extract(PlainReader(ImageNeeds()), tints(3), backbone=tiny_backbone, runtime=Runtime(device="cpu", workers=0))
    return tmp_path / "features"


def test_what_is_stored_and_deleted(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file,) = stored.glob("features-*")
    assert main(["cache", "features", "list"]) == 0
    head, line = capsys.readouterr().out.splitlines()[:2]
    assert head.split() == ["tower", "reads", "view", "dtype", "images", "files", "MB", "used"]
    assert line.split()[:6] == ["tiny-vit", "global", "test", "fp32", "3", "1"]
    size = file.stat().st_size
    assert main(["cache", "features", "prune", "--max-size", "1GB", "--json"]) == 0
    counts = {"deleted": 0, "freed": 0, "left": size, "in_use": 0}
    assert json.loads(capsys.readouterr().out)["data"] == {"folder": str(stored), **counts}
    assert main(["cache", "features", "prune", "--max-size", "0"]) == 0
    assert capsys.readouterr().out == f"deleted 1 file, 1 kB; 0 kB left in {stored}\n"
    assert main(["cache", "features", "list", "--feature-cache", str(stored)]) == 0
    assert capsys.readouterr().out == f"no features in {stored}\n"


@pytest.mark.parametrize("flags", [["--max-size", "much"], ["--max-size", "1GB", "--feature-cache", "off"], []])
def test_slips(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "features", "prune", *flags]) == 2
    assert capsys.readouterr().err.startswith("error: ")

"""`vlmprompt explain`: what it prints, and how it ends."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.tiny_loader import TinyLoader
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.cli.main import main
from vlmprompt.explain import entries
from vlmprompt.training.runs import Run


@pytest.fixture(autouse=True)
def tiny(tiny_spec: None, tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tower of the runs by its name, and pictures that cost nothing."""
    monkeypatch.setattr(TinyLoader, "load", lambda *args, **more: tiny_backbone)
    monkeypatch.setattr(entries, "draw", lambda *args: b"")


@pytest.fixture
def run(coop_run: Run, tmp_path: Path) -> Path:
    """A run of one's own."""
    return Path(shutil.copytree(coop_run.path, tmp_path / "mine"))


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    return content


def test_a_line_for_each_picture(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(run), "--n", "2", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(run / "explain")
    assert lines[1].split() == ["picture", "shows", "true", "predicted", "probability"]
    assert [line.split()[1] for line in lines[2:]] == ["attention", "cosines", "attention", "cosines", "figure"]
    assert {line.split()[0] for line in lines[2:]} == {file.name for file in (run / "explain").glob("*.png")}


def test_the_document(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "elsewhere"
    choice = ["--n", "1", "--seed", "3", "--which", "mistakes"]
    assert main(["explain", str(run), "--out", str(out), "--device", "cpu", "--json", *choice]) == 0
    data = document(capsys)["data"]
    assert data.pop("folder") == str(out) and data.pop("failed") == []
    assert data == json.loads((out / "explain.json").read_text())
    assert data["images"][0]["true"] != data["images"][0]["predicted"]
    assert not (run / "explain").exists()


def test_an_unreadable_image_among_others(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"nothing")
    named = [str(broken), str(photos / "test/red_fox/0.png")]
    assert main(["explain", str(run), *named, "--device", "cpu", "--json"]) == 5
    found = document(capsys)
    assert found["ok"] is False and len(found["data"]["images"]) == 1 and len(found["data"]["failed"]) == 1
    assert "broken.jpg" in found["error"]["message"] and "the others" in found["error"]["hint"]
    assert main(["explain", str(run), str(broken), "--device", "cpu", "--json"]) == 3
    assert "no image could be read" in document(capsys)["error"]["message"]


def test_a_run_that_is_not_finished(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(content | {"status": "interrupted"}))
    assert main(["explain", str(run), "--device", "cpu", "--json"]) == 3
    error = document(capsys)["error"]
    assert "is not finished" in error["message"] and "--resume" in error["hint"]
    assert not (run / "explain").exists()


def test_why_there_are_no_maps_by_gradients(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vlmprompt.backbones.vision.tokens import TokenEngine
    from vlmprompt.errors import CapabilityError

    def refuse(*args: Any) -> None:
        raise CapabilityError("its attention cannot be seen")

    monkeypatch.setattr(TokenEngine, "class_map", refuse)
    assert main(["explain", str(run), "--n", "1", "--device", "cpu", "--json"]) == 0
    found = document(capsys)
    assert found["warnings"] == ["no maps by gradients: its attention cannot be seen"]
    assert [own["kind"] for own in found["data"]["images"][0]["pictures"]] == ["cosines"]
    monkeypatch.setattr("vlmprompt.methods.showing.cosine_maps", lambda *args: [])
    assert main(["explain", str(run), "--n", "1", "--device", "cpu", "--json"]) == 3
    assert document(capsys)["error"]["message"] == "its attention cannot be seen"

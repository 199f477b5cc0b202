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
from vlmprompt.methods.coop import CoOp
from vlmprompt.methods.learned_table import LearnedTable
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
    out, err = capsys.readouterr()
    assert f"Nearest words of the learned context: 2 rows in {run / 'explain/explain.json'}" in err
    lines = out.splitlines()
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


def test_how_much_is_on_the_object_stands_beside_each_picture() -> None:
    from vlmprompt.cli.explain import _table

    def picture(pointing: float | None, *maps: float | None) -> dict[str, Any]:
        return {"file": "a.png", "kind": "plan", "pointing": pointing, "maps": [{"pointing": one} for one in maps]}

    def column(*pictures: dict[str, Any]) -> list[Any]:
        image = {"true": None, "predicted": "fox", "probability": 0.5, "pictures": pictures}
        table = _table({"folder": "f", "images": [image], "figures": [{"file": "b.svg"}]})
        return [row[5:] for row in table.rows]

    mixed = column(picture(0.25, 0.1, 0.4), picture(0.0, 0.0), picture(None, 0.5, None, 0.125), picture(None, None))
    assert mixed == [("0.250",), ("0.000",), ("0.125 to 0.500",), ("",), ("",)]
    assert column(picture(None, None)) == [(), ()]


def test_a_table_of_the_method_is_printed_and_kept(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    columns, rows = ("layer", "gate"), [("1", "0.25"), ("2", "0.75")]
    table = LearnedTable("Gates", columns, rows, "Shares.")
    monkeypatch.setattr(CoOp, "learned_tables", lambda self: [table])
    assert main(["explain", str(run), "--n", "1", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert [line.split() for line in out.splitlines()[-6:]] == [
        *([], ["Gates"], ["layer", "gate"], ["1", "0.25"], ["2", "0.75"], ["Shares."]),
    ]
    assert "Nearest words" in err and "Gates" not in err
    own, words = json.loads((run / "explain/explain.json").read_text())["tables"]
    assert own == {
        "title": "Gates",
        "columns": ["layer", "gate"],
        "rows": [["1", "0.25"], ["2", "0.75"]],
        "caption": "Shares.",
        "by": "coop",
    }
    assert words["by"] is None and words["rows"]


def test_where_a_table_is_or_why_it_is_empty() -> None:
    from vlmprompt.cli.explain import _told

    assert _told({"title": "Words", "rows": [["1"]], "caption": ""}, Path("a")) == "Words: 1 row in a/explain.json"
    assert _told({"title": "Words", "rows": [], "caption": "There are none."}, Path("a")) == "Words: There are none."

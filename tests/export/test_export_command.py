"""`vlmprompt export` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlmprompt.cli.main import main
from vlmprompt.export import formats
from vlmprompt.training.runs import Run

pytestmark = pytest.mark.usefixtures("tiny_spec")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_newest_run_goes_where_it_is_named_after(
    coop_run: Run, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--to", "safetensors", "--runs-dir", str(coop_run.path.parent)]) == 0
    out, err = capsys.readouterr()
    assert (place / f"{coop_run.name}.safetensors").exists()
    assert out.splitlines()[0] == f"safetensors {coop_run.name}.safetensors"
    assert out.splitlines()[1].startswith(
        f"tried on    6 test images of {coop_run.config.data}: logits as the run's, to "
    )
    assert out.splitlines()[2].startswith("next        logits = scale * features @ classes.T + bias")
    assert f"newest run: {coop_run.path}" in err


@pytest.mark.usefixtures("traced_once")
def test_the_next_step_and_the_document(coop_run: Run, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["export", str(coop_run.path), "--to", "onnx", "--out", "my models/a b.onnx"]
    assert main(line) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "next        python 'my models/a_b_predict.py' PICTURE"
    assert main(line) == 3
    assert "a b.onnx is there already" in capsys.readouterr().err
    assert main([*line, "--force", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert data["to"] == "onnx" and data["difference"] < 1e-5 and data["temperature"] is None
    assert data["files"] == [str(place / "my models" / name) for name in ("a b.onnx", "a_b_predict.py")]
    (place / "link.onnx").symlink_to("elsewhere.onnx")  # the script lies beside the file itself
    assert main([*line[:-1], "link.onnx"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"next        python {place / 'elsewhere_predict.py'} PICTURE"


def test_a_missing_extra_is_told_with_its_command(
    coop_run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    assert main(["export", str(coop_run.path), "--to", "onnx"]) == 3
    assert 'hint: pip install "vlmprompt[onnx]"' in capsys.readouterr().err

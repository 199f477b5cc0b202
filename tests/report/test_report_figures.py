"""`vlmprompt report --figures` and `--latex`: what is written, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.report.material import details, key_of, measured, write_run
from vlmprompt.cli import report_figures
from vlmprompt.cli.main import main
from vlmprompt.report import drawing

P = [[0.75, 0.25], [0.75, 0.25]]
LOG = [{"step": 1, "epoch": 1, "lr": 0.1, "loss": 2.0, "accuracy": 0.5}]
NAMES = ["classes-run", "confusion-run", "learning-accuracy-run", "learning-loss-run", "reliability-run"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with a log and one measured cell."""
    cells = {key_of(1): details("ab", ("cat", "dog"), P, [0, 1])}
    return write_run(tmp_path / "runs/run", [measured("run", value=0.5, n=2)], cells=cells, log=LOG)


@pytest.mark.parametrize(("arguments", "kind"), [([], "svg"), (["--figure-format", "png"], "png")])
def test_figures_are_files_of_their_own(
    run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], kind: str
) -> None:
    folder = run.parent / "new/figures"
    assert main(["report", str(run), "--figures", str(folder), *arguments]) == 0
    printed = capsys.readouterr()
    assert sorted(path.name for path in folder.iterdir()) == [f"{name}.{kind}" for name in NAMES]
    assert f"figures: 5 files in {folder}" in printed.err and "50.00" in printed.out
    first = {path: path.read_bytes() for path in folder.iterdir()}
    if kind == "svg":
        assert {ElementTree.fromstring(content).tag for content in first.values()} == {
            "{http://www.w3.org/2000/svg}svg"
        }
        assert main(["report", str(run), "--figures", str(folder)]) == 0
        assert {path: path.read_bytes() for path in folder.iterdir()} == first


def test_the_document_names_the_figures(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run.parent / "figures"
    assert main(["report", str(run), "--figures", str(folder), "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["data"]["figures"]
    assert sorted(files) == [str(folder / f"{name}.svg") for name in NAMES]


def test_nothing_to_draw_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", [measured("run", value=0.5)])
    assert main(["report", str(run), "--figures", str(tmp_path / "figures")]) == 0
    assert "no figures: nothing of what is stored can be drawn; 'vlmprompt evaluate RUN" in capsys.readouterr().err
    assert not (tmp_path / "figures").exists()


def test_damaged_details_are_named_and_the_rest_is_drawn(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "details" / f"{key_of(1)}.safetensors").write_bytes(b"no details")
    folder = run.parent / "figures"
    assert main(["report", str(run), "--figures", str(folder)]) == 5
    assert f"{key_of(1)}.safetensors is damaged" in capsys.readouterr().err
    assert sorted(path.stem for path in folder.iterdir()) == ["learning-accuracy-run", "learning-loss-run"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--figures", "f", "--figure-format", "pfd"], 2, "unknown format of figures 'pfd'"),
        (["--figure-format", "pdf"], 2, "--figure-format is for --figures"),
        (["--figures", "taken"], 3, "taken is no folder"),
        (["--latex", "--reporter", "csv"], 2, "--latex and --reporter csv exclude each other"),
    ],
)
def test_slips_are_refused(
    run: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(run.parent)
    Path("taken").touch()
    assert main(["report", "run", *arguments]) == code
    printed = capsys.readouterr()
    assert message in printed.err and printed.out == ""


def test_latex_is_a_reporter(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run), "--latex"]) == 0
    first = capsys.readouterr().out
    assert main(["report", str(run), "--reporter", "latex"]) == 0
    assert capsys.readouterr().out == first
    assert r"coop & 16 & 50.00 \\" in first


def test_formats_have_one_list() -> None:
    assert report_figures.FORMATS == drawing.FORMATS

"""`vlmprompt report --html`: what it writes, what it refuses, and what it names."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.report.material import Taken, details, key_of, measured, run_json, write_run
from vlmprompt.cli.main import main
from vlmprompt.cli.report_page import MARK
from vlmprompt.config.resolve import resolve
from vlmprompt.report import page as page_module
from vlmprompt.report.sections.record import command
from vlmprompt.training.run_info import RunInfo

P = [[0.75, 0.25], [0.75, 0.25]]
LIST_MODULES = """
import sys
from vlmprompt.cli.main import main
code = main(sys.argv[1:])
print(code, *sys.modules, file=sys.stderr)
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with one measured cell."""
    rows = [measured("run", value=0.5, n=2), measured("run", 2, method="zeroshot", value=0.25, n=2)]
    cells = {key_of(1): details("ab", ("cat", "dog"), P, [0, 1])}
    return write_run(tmp_path / "runs/run", rows, cells=cells)


def test_the_page_is_written_beside_the_table(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = run.parent / "new/folder/report.html"
    assert main(["report", str(run), "--html", str(file), "--reporter", "markdown"]) == 0
    printed = capsys.readouterr()
    assert f"page: {file} (" in printed.err
    assert main(["report", str(run), "--reporter", "markdown"]) == 0
    assert capsys.readouterr().out == printed.out
    taken = Taken(file.read_text(encoding="utf-8"))
    assert taken.headings[0] == "results"
    assert {"classes", "confusion", "reliability", "images", "record"} <= set(taken.headings)


def test_the_document_names_the_page(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = run.parent / "report.html"
    assert main(["report", "--runs-dir", str(run.parent), "--html", str(file), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert data["page"] == str(file)
    assert [row["value"] for row in data["rows"]] == [0.5, 0.25]


def test_a_page_is_replaced_by_the_same_bytes(run: Path) -> None:
    file = run.parent / "report.html"
    assert main(["report", str(run), "--html", str(file)]) == 0
    before = file.read_bytes()
    assert main(["report", str(run), "--html", str(file)]) == 0
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", [b"<!doctype html>\n<p>of somebody</p>", b"{}", b"\xff\xfe\x00"])
def test_a_file_of_somebody_else_stays(run: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    file = run.parent / "index.html"
    file.write_bytes(content)
    assert main(["report", str(run), "--html", str(file)]) == 3
    assert f"{file} was not made by 'vlmprompt report --html'" in capsys.readouterr().err
    assert file.read_bytes() == content


def test_an_empty_file_may_be_filled(run: Path) -> None:
    file = run.parent / "report.html"
    file.touch()
    assert main(["report", str(run), "--html", str(file)]) == 0
    assert page_module.is_page(file.read_bytes())


def test_a_folder_in_the_place_of_the_page_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--html", str(run), str(run)]) == 3
    printed = capsys.readouterr().err
    assert f"{run} is a folder" in printed and f"--html {run / 'report.html'}" in printed


def test_a_page_that_cannot_be_written_is_an_error(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    below = run / "run.json" / "report.html"
    assert main(["report", str(run), "--html", str(below)]) == 3
    printed = capsys.readouterr().err
    assert "cannot" in printed and "or name another file" in printed
    assert "--out" not in printed and "--resume" not in printed  # report has neither


def test_without_results_there_is_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "runs/run", [])
    file = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "runs"), "--html", str(file)]) == 3
    printed = capsys.readouterr().err
    assert "holds no results" in printed and "vlmprompt evaluate" in printed
    assert not file.exists()


def test_of_an_empty_results_file_there_is_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results.jsonl").write_bytes(b"")
    file = tmp_path / "report.html"
    assert main(["report", str(tmp_path), "--html", str(file)]) == 3
    assert "no results to make a page of" in capsys.readouterr().err and not file.exists()


def test_runs_that_are_not_measured_yet_are_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(run.parent / "later", [], status="running")
    write_run(run.parent / "trained", [])
    file = run.parent / "report.html"
    assert main(["report", str(run.parent), "--html", str(file)]) == 0
    taken = Taken(file.read_text(encoding="utf-8"))
    head = taken.text[: taken.text.index("Contents")]
    assert "later: running" in head
    assert "Trained, but not measured" in head and "trained" in head
    assert [line[0] for line in taken.tables["Runs"]] == ["run", "run", "later", "trained"]


def test_damaged_details_are_named_and_the_page_is_written(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = run / "details" / f"{key_of(1)}.safetensors"
    damaged.write_bytes(b"nothing")
    file = run.parent / "report.html"
    assert main(["report", str(run), "--html", str(file), "--json"]) == 5
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["error"]["code"], document["data"]["page"]) == (False, 5, str(file))
    assert f"the page was written without 1 thing that cannot be used: {damaged}" in document["error"]["message"]
    taken = Taken(file.read_text(encoding="utf-8"))
    assert str(damaged) in taken.text[: taken.text.index("Contents")]
    assert "results" in taken.headings and "confusion" not in taken.headings


def test_the_mark_is_written_once() -> None:
    assert page_module.MARK == MARK


@pytest.mark.parametrize("html", [False, True])
def test_what_is_imported(run: Path, html: bool) -> None:
    """A table needs neither of the libraries of the page, and the page no torch."""
    file = run.parent / "report.html"
    words = ["report", str(run), *(["--html", str(file)] if html else [])]
    done = subprocess.run([sys.executable, "-c", LIST_MODULES, *words], capture_output=True, text=True, check=True)
    code, *loaded = done.stderr.splitlines()[-1].split()
    assert code == "0"
    assert {"torch", "open_clip", "sklearn", "scipy"}.isdisjoint(loaded)
    assert {"jinja2", "matplotlib", "PIL"} & set(loaded) == ({"jinja2", "matplotlib", "PIL"} if html else set())


GIVEN: dict[str, tuple[dict[str, Any], list[str]]] = {
    "plain": ({"method": "coop"}, []),
    "flags": ({"method": "coop", "data": "folder:my photos", "shots": "all", "seed": 3, "train.lr": 0.5}, []),
    "tables": (
        {"method": "coop"},
        ['class_weights={"a b" = 2.0, cat = 0.5}', "options.n_ctx=2", "image_size=[64, 32]"],
    ),
    "texts": ({"method": "zeroshot"}, ["templates=['a {}.', 'it''s {}']".replace("''", "\\u0027"), "exif=false"]),
    "preset": ({"method": "gallop"}, ["options.topk=[5, 10]"]),
    "shipped": ({"method": "coop", "setting": "base-to-new"}, ["train.epochs=2"]),
}


@pytest.mark.parametrize("given", GIVEN)
def test_the_command_of_a_run_gives_its_configuration(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags, sets = GIVEN[given]
    resolved = resolve(flags, sets=sets, env={})
    content = run_json("run", ("cat", "dog"), resolved.run, sources=resolved.sources)
    words = shlex.split(command(RunInfo.model_validate(content)) or "")
    assert words[:2] == ["vlmprompt", "train"]
    assert main(["config", "show", *words[2:], "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["data"]
    assert shown["config"] == resolved.run.model_dump(mode="json")


def test_the_command_says_what_was_given_and_no_more() -> None:
    flags, sets = GIVEN["flags"]
    resolved = resolve(flags, sets=[*sets, "options.n_ctx=2"], env={})
    content = run_json("run", ("cat", "dog"), resolved.run, sources=resolved.sources)
    assert command(RunInfo.model_validate(content)) == (
        "vlmprompt train --method coop --data 'folder:my photos' --backbone doodle-clip --shots all --seed 3 "
        "--set train.lr=0.5 --set options.n_ctx=2"
    )


def test_of_an_imported_run_there_is_no_command() -> None:
    config = resolve({"method": "coop"}, env={}).run
    content = run_json("run", ("cat", "dog"), config, imported={"file": "model.pth", "sha256": "0" * 64})
    assert command(RunInfo.model_validate(content)) is None

"""A slip of the finger is refused at once: before torch is imported, in the words of the part that would refuse it."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest

from vlmprompt.cli import loading
from vlmprompt.cli.main import main

RUN = ["--method", "coop", "--backbone", "RN50", "--random-weights"]
# Command line, exit code, what the error says, what the hint says.
SLIPS: list[tuple[list[str], int, str, str]] = [
    (["train", "--method", "coopp"], 2, "unknown method 'coopp'", "'coop'"),
    (["train", "--method", "coop", "--backbone", "vit_b16"], 2, "unknown architecture 'vit_b16'", "'ViT-B-16'"),
    (["train", "--method", "coop", "--backbone", "ViT-B-16/opnai"], 2, "'opnai' is neither a file", "'openai'"),
    (["train", "--method", "coop", "--backbone", "ViT-B-16"], 2, "names no weights", "ViT-B-16-quickgelu/openai"),
    (["train", *RUN, "--data", "foldr:x"], 2, "unknown dataset 'foldr'", "'folder'"),
    (["train", *RUN, "--data", "folder:nowhere"], 3, "there is no nowhere", "--root"),
    (["train", *RUN, "--data", "folder:photos?tran=a"], 2, "no option 'tran'", "'train'"),
    (["train", *RUN, "--data", "csv:list.csv"], 3, "there is no list.csv", "--root"),
    (["train", *RUN, "--data", "wds:shards"], 3, "there is no shards", "--root"),
    (["train", *RUN, "--data", "hf:no/such/folder"], 3, "there is no folder no/such/folder", "OWNER/NAME"),
    (["train", *RUN, "--data", "coop:dtdd"], 2, "unknown benchmark data set", "'dtd'"),
    (["train", *RUN, "--data", "coop:dtd"], 3, "coop:dtd has no split_zhou_DescribableTextures.json", "it is had from"),
    (["train", *RUN, "--data", "doodles:skech"], 2, "no domain 'skech'", "'sketch'"),
    (["train", *RUN, "--set", "n_ctxx=4"], 2, "unknown configuration key 'n_ctxx'", "'n_ctx'"),
    (["train", *RUN, "--config", "run.toml"], 2, "unknown configuration key 'shotss'", "'shots'"),
    (["train", *RUN, "--device", "cudda"], 2, "unknown device 'cudda'", "cuda"),
    (["train", *RUN, "--preset", "deep"], 2, "unknown preset 'deep'", "no presets"),
    (["train", *RUN, "--class-names", "no.txt"], 3, "there is no no.txt", "--root"),
    (["train", *RUN, "--class-names", "~nobody-at-all/x"], 3, "there is no ~nobody-at-all/x", "--root"),
    (["train", *RUN, "--descriptions", "no.jsonl"], 3, "cannot read the descriptions no.jsonl", "describe-classes"),
    (["train", *RUN, "--data", "folder:~nobody-at-all/x"], 3, "there is no ~nobody-at-all/x", "--root"),
    (["import", "run.toml", *RUN, "--data", "folder:nowhere"], 3, "there is no nowhere", "--root"),
    (["import", "x.pt"], 3, "there is no checkpoint x.pt", "name a file"),
    (["import", "photos"], 3, "there is no checkpoint in photos", "name the file"),
    (["evaluate", "nowhere"], 3, "nowhere is not a run", "vlmprompt train"),
    (["evaluate", "runs"], 3, "runs is not a run", "it holds runs: done"),
    (["evaluate", "--runs-dir", "empty"], 3, "no finished run in empty", "vlmprompt train"),
    (["evaluate", "runs/done", "--data", "foldr:x"], 2, "unknown dataset 'foldr'", "'folder'"),
    (["evaluate", "runs/done", "--ood", "folder:nowhere"], 3, "there is no nowhere", "--root"),
    (["evaluate", "runs/done", "--suite", "acuracy"], 2, "unknown suite 'acuracy'", "'accuracy'"),
    (["evaluate", "runs/done", "--suite", "ood:imagenet-moss"], 2, "unknown OOD benchmark", "'imagenet-mos'"),
    (["evaluate", "runs/done", "--suite", "accuracy:x"], 2, "takes no argument", "--suite accuracy"),
    (["evaluate", "runs/done", "--reporter", "makdown"], 2, "unknown reporter", "'markdown'"),
    (["export", "runs/done"], 2, "--to is missing", "onnx"),
    (["export", "runs/done", "--to", "onx"], 2, "nothing is exported to 'onx'", "'onnx'"),
    (["export", "runs/begun", "--to", "onnx"], 3, "run begun is not finished", "--resume"),
    (["export", "nowhere", "--to", "onnx"], 3, "nowhere is not a run", "vlmprompt train"),
    (["export", "runs/done", "--to", "onnx", "--out", "x.pt"], 2, "a file *.onnx, not x.pt", "x.pt.onnx"),
    (["export", "runs/done", "--to", "open_clip", "--out", "run.toml"], 3, "run.toml is a file", "name a folder"),
    (["export", "runs/done", "--to", "open_clip", "--out", "runs"], 3, "is there already", "--force"),
    (["export", "runs/done", "--to", "onnx", "--images", "no.png"], 3, "there is no no.png", "--images"),
    (["export", "runs/done", "--to", "onnx", "--backbone", "vit_b16"], 2, "unknown architecture", "'ViT-B-16'"),
    (["evaluate", "runs/done", "--calibrated", "--suite", "ood"], 2, "suite ood is not measured at", "--calibrated"),
    (["evaluate", "--method", "zeroshot", "--calibrated"], 2, "--calibrated has no effect", "name a run"),
    (["calibrate", "dnoe"], 3, "dnoe is not a run", "'done'"),
    (["explain", "begun"], 3, "run begun is not finished", "--resume"),
    (["calibrate", "nowhere"], 3, "nowhere is not a run", "vlmprompt train"),
    (["calibrate", "runs"], 3, "runs is not a run", "it holds runs: done"),
    (["calibrate", "--runs-dir", "empty"], 3, "no finished run in empty", "vlmprompt train"),
    (["calibrate", "runs/begun"], 3, "run begun is not finished", "--resume"),
    (["calibrate", "runs/done", "--split", "tset"], 2, "no split 'tset'", "'test'"),
    (["calibrate", "runs/done", "--device", "cudda"], 2, "unknown device 'cudda'", "cuda"),
    (["calibrate", "runs/done", "--backbone", "vit_b16"], 2, "unknown architecture 'vit_b16'", "'ViT-B-16'"),
    (["report", "runs", "--classes", "--reporter", "csv"], 2, "--classes has no csv form", "--json"),
    (["report", "runs", "--classes", "--calibration"], 2, "are two tables", "one after the other"),
    (["report", "runs", "--classes", "--html", "page.html"], 2, "--classes has no effect with --html", "both"),
    (["predict", "runs/done", "nowhere"], 3, "there is no nowhere", "a folder of pictures"),
    (["predict", "runs/done", "photos"], 3, "folder photos has no images", "name one that has"),
    (["predict", "done", "run.toml", "--reject", "1.5"], 2, "at most 1, not 1.5", "0.95"),
    (["predict", "done", "run.toml", "--reject", "0.9", "--score", "mmc"], 2, "unknown score 'mmc'", "'mcm'"),
    (
        ["evaluate", "runs/done", "--suite", "ood", "--score-set", "neglabl.top=1"],
        2,
        "unknown OOD score 'neglabl'",
        "'neglabel'",
    ),
    (
        ["evaluate", "runs/done", "--suite", "ood", "--score-set", "neglabel.tip=1"],
        2,
        "score 'neglabel' has no option 'tip'",
        "'top'",
    ),
    (
        ["evaluate", "runs/done", "--suite", "ood", "--score-set", "neglabel.top=0.5"],
        2,
        "score 'neglabel' needs option negatives",
        "a word a line",
    ),
    (["predict", "done", "run.toml", "--conformal", "1"], 2, "between 0 and 1, not 1", "0.1"),
    (["predict", "done", "run.toml", "--top", "0"], 2, "'--top'", "--help"),
    (["predict", "done", "run.toml", "--format", "cvs"], 2, "unknown format 'cvs'", "'csv'"),
    (["predict", "dnoe", "run.toml"], 3, "neither a picture nor a run dnoe", "'done'"),
    (["predict", "done", "run.toml", "--device", "cudda"], 2, "unknown device 'cudda'", "cuda"),
    (["predict", "done", "run.toml", "--backbone", "vit_b16"], 2, "unknown architecture 'vit_b16'", "'ViT-B-16'"),
    (["predict", "run.toml", "--runs-dir", "empty"], 3, "no finished run in empty", "vlmprompt train"),
    (["explain", "nowhere"], 3, "nowhere is not a run", "vlmprompt train"),
    (["explain", "runs/done", "no.jpg"], 3, "there is no no.jpg", "name image files"),
    (["explain", "runs/done", "photos"], 3, "there is no image in photos", ".jpg"),
    (["explain", "runs/done", "--which", "mistaken"], 2, "unknown choice of images 'mistaken'", "'mistakes'"),
    (["explain", "runs/done", "--n", "0"], 2, "--n 0 is not allowed", "1 to 10000"),
    (["explain", "runs/done", "photos", "--n", "3"], 2, "--n has no effect on images that are named", "leave one"),
    (["sweep", *RUN, "--data", "doodels"], 2, "unknown dataset 'doodels'", "'doodles'"),
    (["sweep", *RUN, "--domain", "doodles:skech"], 2, "no domain 'skech'", "'sketch'"),
    (["sweep", *RUN, "--grid", "n_ctxx=4,16"], 2, "method 'coop' has no setting 'n_ctxx' (--grid)", "'n_ctx'"),
    (["sweep", *RUN, "--grid", "lr=0.1,-1"], 2, "train.lr = -1 (--grid) is not allowed", "learning rate"),
    (["reproduce", "dmeo"], 2, "there is no recipe 'dmeo'", "'demo'"),
    (["reproduce", "mine.toml"], 2, "unknown architecture 'vit_b16'", "'ViT-B-16'"),
    (["describe-classes", "--data", "foldr:x"], 2, "unknown dataset 'foldr'", "'folder'"),
    (["data", "show", "foldr:x"], 2, "unknown dataset 'foldr'", "'folder'"),
    (["backbones", "show", "vit_b16"], 2, "unknown architecture 'vit_b16'", "'ViT-B-16'"),
    (["methods", "show", "coopp"], 2, "unknown method 'coopp'", "'coop'"),
    (["config", "describe", "train.lrr"], 2, "unknown configuration key 'train.lrr'", "'train.lr'"),
]
RECIPE = """
title = "Mine"
about = "one grid"
grid = [{ methods = ["coop"], data = ["doodles"], suites = ["accuracy"], backbone = "vit_b16" }]
column = [{ header = "top1", suite = "accuracy", cell = "test" }]
"""
ALL = """
import contextlib, io, json, sys
from vlmprompt.cli.main import main

for line in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
        code = main([*line, "--json"])
    error = json.loads(out.getvalue()).get("error")
    print(json.dumps([code, error["message"], error["hint"], "torch" in sys.modules]))
"""


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str, str, bool]]:
    """What each slip ended with, all in one fresh interpreter; and whether torch was there by then."""
    folder = tmp_path_factory.mktemp("slips")
    (folder / "run.toml").write_text("shotss = 4\n")
    (folder / "mine.toml").write_text(RECIPE)
    (folder / "photos").mkdir()
    (folder / "runs" / "done").mkdir(parents=True)
    (folder / "runs" / "done" / "run.json").write_text('{"schema_version": 1, "name": "done", "status": "finished"}')
    (folder / "runs" / "begun").mkdir()
    (folder / "runs" / "begun" / "run.json").write_text('{"schema_version": 1, "name": "begun", "status": "running"}')
    lines = json.dumps([line for line, *_ in SLIPS])
    command = [sys.executable, "-c", ALL]
    done = subprocess.run(command, input=lines, cwd=folder, capture_output=True, text=True, check=True)
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("place", range(len(SLIPS)), ids=[" ".join(line) for line, *_ in SLIPS])
def test_a_slip_costs_no_import_of_torch(refused: list[tuple[int, str, str, bool]], place: int) -> None:
    _, code, message, hint = SLIPS[place]
    found_code, found_message, found_hint, torch_was_there = refused[place]
    assert (found_code, torch_was_there) == (code, False)
    assert message in found_message
    assert hint in found_hint


def test_options_of_all_methods_are_read_without_torch() -> None:
    check = (
        "import sys\n"
        "from vlmprompt.plugins import host\n"
        "print(all(entry.load_config() for entry in host().methods.entries()), 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


@pytest.fixture
def heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that stands in for torch, which these tests have long imported."""
    (tmp_path / "heavy_stand_in.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(loading, "SLOW", "heavy_stand_in")
    monkeypatch.delitem(sys.modules, "heavy_stand_in", raising=False)
    return "heavy_stand_in"


@pytest.mark.parametrize(("quiet", "lines"), [(False, 1), (True, 0)])
def test_a_heavy_import_is_announced_once_before_it_begins(
    heavy: str, quiet: bool, lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    finders = list(sys.meta_path)
    with loading.announced(quiet=quiet):
        for _ in range(2):
            __import__(heavy)
            del sys.modules[heavy]
    assert sys.meta_path == finders
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.splitlines() == [f"loading {heavy}, which takes some seconds ..."] * lines


@pytest.mark.parametrize("quiet", [False, True])
def test_nobody_looks_for_garbage_in_a_heavy_import(heavy: str, quiet: bool, tmp_path: Path) -> None:
    (tmp_path / f"{heavy}.py").write_text("import gc\nwas_on = gc.isenabled()\nkept = [[] for _ in range(10)]\n")
    frozen = gc.get_freeze_count()
    with loading.announced(quiet=quiet):
        module = __import__(heavy)
    try:
        assert not module.was_on and gc.isenabled()
        assert gc.get_freeze_count() > frozen  # nor afterwards in what it has made
    finally:
        gc.unfreeze()


def test_what_is_there_already_is_not_announced(capsys: pytest.CaptureFixture[str]) -> None:
    assert "torch" in sys.modules
    assert main(["config", "show", "--method", "coop"]) == 0
    assert "loading" not in capsys.readouterr().err

"""`vlmprompt data list|check|show|sample`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.data.benchmark_trees import LAYOUTS, jpeg, write_tree
from vlmprompt.cli.main import main


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two benchmarks, DTD with an image missing and one that is none."""
    write_tree(tmp_path, "ucf101")
    write_tree(tmp_path, "dtd")
    (tmp_path / "dtd/images/banded/banded_0001.jpg").unlink()
    (tmp_path / "dtd/images/banded/banded_0002.jpg").write_text("no image")
    monkeypatch.setenv("VLMPROMPT_ROOT", str(tmp_path))
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[Any, str]:
    """The document (or, without --json, the text) on stdout, and stderr."""
    assert main(["data", *arguments]) == code
    captured = capsys.readouterr()
    return (json.loads(captured.out) if "--json" in arguments else captured.out), captured.err


def test_list(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text, _ = run(capsys, "list")
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["imagenet", "caltech101", "oxford_pets", "stanford_cars"]
    assert ["caltech101", "100", "4128/1649/2465", "absent"] in [line.split() for line in lines]
    assert "not the published split file" in next(line for line in lines if line.startswith("ucf101"))
    assert max(map(len, lines[:16])) <= 80 and lines[-1] == "where each is had: vlmprompt data show coop:NAME"
    document, _ = run(capsys, "list", "--json")
    rows = {row["name"]: row for row in document["data"]["benchmarks"]}
    assert rows["dtd"]["status"] == "incomplete" and rows["food101"]["status"] == "absent"
    assert rows["food101"]["source"].startswith("https://") and rows["food101"]["images"]["test"] == 30300


def test_check(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, err = run(capsys, "check", "--accept-split", code=3)
    assert "1 of 2 data sets have problems: coop:dtd" in err
    assert "coop:dtd: missing\n  banded/banded_0001.jpg" in text
    assert "coop:dtd: unreadable\n  banded/banded_0002.jpg (it is no image in a known format)" in text
    assert "coop:dtd is had from https://" in text
    document, _ = run(capsys, "check", "coop:dtd", "--accept-split", "--json", code=3)
    (report,) = document["data"]["reports"]
    assert (report["expected"]["train"], report["found"]["train"]) == (2820, 7)
    assert report["missing"] == ["banded/banded_0001.jpg"]
    assert report["unreadable"] == [{"path": "banded/banded_0002.jpg", "reason": "it is no image in a known format"}]
    assert document["ok"] is False and document["error"]["code"] == 3
    run(capsys, "check", "coop:ucf101", "--accept-split")
    text, _ = run(capsys, "check", "coop:ucf101", code=3)
    assert "is not the published file" in text and "--accept-split" in text


def test_check_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, err = run(capsys, "check", "--root", str(tmp_path), code=3)
    assert "there is no benchmark data set below" in err and "vlmprompt data list" in err
    run(capsys, "check", "coop:nonsense", "--root", str(tmp_path), code=2)


def test_show(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = root / "sheets/ucf.png"
    text, err = run(capsys, "show", "ucf101", "--accept-split", "--sheet", str(sheet))
    assert "Apply_Eye_Makeup, Yo_Yo" in text and "a photo of a person doing {}." in text and "8/4/4" in text
    assert "is not the published one" in err
    with Image.open(sheet) as image:
        assert image.size == (4 * 118 + 6, 2 * 134 + 6)
    document, _ = run(capsys, "show", "coop:ucf101", "--accept-split", "--json")
    assert document["data"]["class_names"] == ["Apply_Eye_Makeup", "Yo_Yo"]
    assert document["data"]["images"] == {"train": 7639, "val": 1898, "test": 3783}
    assert document["data"]["problem"] is None
    _, err = run(capsys, "show", "coop:ucf101", "--accept-split", "--sheet", "sheet.gif", code=2)
    assert "no PNG file" in err


def test_show_of_what_is_not_there(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, _ = run(capsys, "show", "coop:food101")
    assert "food-101/images" in text and "50500/20200/30300" in text and "not there: coop:food101 has no" in text
    document, _ = run(capsys, "show", "coop:food101", "--json")
    assert "split_zhou_Food101.json" in document["data"]["problem"]["message"]
    run(capsys, "show", "folder:nowhere", code=3)
    run(capsys, "show", "coop:food101", "--sheet", "sheet.png", code=3)


def test_sample(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document, _ = run(capsys, "sample", "coop:dtd", "--shots", "2", "--seed", "3", "--accept-split", "--json")
    data = document["data"]
    assert [row["class"] for row in data["train"]] == ["banded", "banded", "polka-dotted", "polka-dotted"]
    listed = {path for rows in LAYOUTS["dtd"].rows().values() for path, _, _ in rows}
    assert {row["path"] for part in ("train", "val") for row in data[part]} < listed
    assert [row["label"] for row in data["val"]] == [0, 0, 1, 1]
    assert (data["shots"], data["seed"], data["sampler"]) == (2, 3, "coop")
    assert data["notes"]["split"]["verified"] == "accepted" and "not the published one" in document["warnings"][0]
    again, _ = run(capsys, "sample", "dtd", "--shots", "2", "--seed", "3", "--accept-split", "--json")
    assert again["data"] == data


def test_sample_by_gallop(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flags in (["--sampler", "gallop"], ["--protocol", "gallop-code"]):
        document, _ = run(capsys, "sample", "coop:ucf101", "--shots", "2", "--accept-split", *flags, "--json")
        assert document["data"]["sampler"] == "gallop" and len(document["data"]["train"]) == 4


def test_sample_errors(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    accept = ["coop:ucf101", "--accept-split"]
    text, _ = run(capsys, "sample", *accept, "--shots", "all")
    assert text.splitlines()[-1].startswith("8 train and 4 val images, SHA-256 of their ids ")
    assert "fewer than 5 train images" in run(capsys, "sample", *accept, "--shots", "5", code=3)[1]
    assert run(capsys, "sample", *accept, "--shots", "5", "--allow-fewer", "--json")[0]["ok"]
    assert "is not the published file" in run(capsys, "sample", "coop:ucf101", code=3)[1]
    assert "neither a number" in run(capsys, "sample", *accept, "--shots", "few", code=2)[1]
    assert "unknown sampler" in run(capsys, "sample", *accept, "--sampler", "galop", code=2)[1]
    assert "unknown protocol" in run(capsys, "sample", *accept, "--protocol", "galop", code=2)[1]


# -- data sets of one's own ---------------------------------------------------------------------------------
@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes without a split: 10 of `ant`, 4 of `bee`."""
    for name, count in (("ant", 10), ("bee", 4)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(count):
            (tmp_path / "photos" / name / f"{i}.jpg").write_bytes(jpeg((i, len(name), count)) + bytes([i]))
    return tmp_path / "photos"


def test_show_of_classes_and_splits(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, _ = run(capsys, "show", f"folder:{photos}")
    assert "drawn by seed 1: each class 50/20/30" in text
    assert "train 2 (bee) to 5 (ant) a class; val 1 (bee) to 2 (ant) a class; test 1 (bee) to 3 (ant) a class" in text
    assert [line.split() for line in text.splitlines()[-3:]] == [
        ["class", "train", "val", "test"],
        ["ant", "5", "2", "3"],
        ["bee", "2", "1", "1"],
    ]
    data = run(capsys, "show", f"folder:{photos}", "--split-seed", "7", "--json")[0]["data"]
    assert data["per_class"][0] == {"class": "ant", "train": 5, "val": 2, "test": 3}
    assert data["imbalance"]["train"] == {
        "smallest": "bee",
        "fewest": 2,
        "largest": "ant",
        "most": 5,
        "ratio": 2.5,
    }
    assert data["split"].startswith("drawn by seed 7") and data["notes"]["split"]["seed"] == 7


def test_show_of_many_classes(capsys: pytest.CaptureFixture[str]) -> None:
    text, _ = run(capsys, "show", "doodles")
    assert text.splitlines()[-1] == "and 44 more classes (--all shows them)"
    text, _ = run(capsys, "show", "doodles", "--all")
    assert text.splitlines()[-1].split()[1:] == ["64", "8", "32"] and "more classes" not in text


def test_integer_labels_and_their_names(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the error says is what helps, in every command."""
    rows = [f"ant/{i}.jpg,0" for i in range(10)] + [f"bee/{i}.jpg,1" for i in range(4)]
    (photos / "list.csv").write_text("path,label\n" + "\n".join(rows))
    (photos / "names.txt").write_text("ant\nhoney bee\n")
    for command, flags in (("show", []), ("sample", ["--shots", "1"]), ("check", [])):
        refused, err = run(capsys, command, f"csv:{photos}/list.csv", *flags, code=3)
        assert "--class-names FILE" in err + refused
        text, _ = run(capsys, command, f"csv:{photos}/list.csv", *flags, "--class-names", str(photos / "names.txt"))
        assert "honey bee" in text or command == "check"


def test_check_of_copies(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split, name in (("train", "ant"), ("test", "bee")):
        (photos.parent / "split" / split).mkdir(parents=True)
        (photos / name).rename(photos.parent / "split" / split / "ant")
    (photos.parent / "split/test/ant/copy.jpg").write_bytes((photos.parent / "split/train/ant/0.jpg").read_bytes())
    spec = f"folder:{photos.parent}/split"
    text, _ = run(capsys, "check", spec, code=3)
    assert f"{spec}: the same image\n  train/ant/0.jpg (train), test/ant/copy.jpg (test)" in text
    assert "1 image is in more than one split" in text and "--allow-overlap" in text
    assert "1 image is in more than one split" in run(capsys, "check", spec, "--allow-overlap")[0]
    assert "a run would stop: 1 image is in more than one split" in run(capsys, "sample", spec, "--shots", "1")[1]
    report = run(capsys, "check", spec, "--allow-overlap", "--near", "--json")[0]["data"]["reports"][0]
    assert report["copies"] == [{"images": ["train/ant/0.jpg", "test/ant/copy.jpg"], "splits": ["train", "test"]}]
    assert {"images": ["train/ant/0.jpg", "train/ant/1.jpg"], "splits": ["train", "train"]} in report["near"]


def test_a_seed_that_no_generator_takes(capsys: pytest.CaptureFixture[str]) -> None:
    _, err = run(capsys, "sample", "doodles", "--seed", str(2**63), code=2)
    assert err == f"error: --seed {2**63} is beyond 2^63 - 1\nhint: such as --seed 1\n"


def test_what_the_numbers_of_a_check_stand_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    text, _ = run(capsys, "check", f"folder:{tmp_path}", "--quick", code=3)
    assert text.splitlines()[0].split() == ["data", "set", "state", "found", "missing", "stray", "broken"]
    assert "\nfound: images in train/val/test\n" in text

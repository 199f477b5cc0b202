"""What `vlmprompt data` finds out about data sets."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.data.benchmark_trees import LAYOUTS, PIXELS, write_split, write_tree
from vlmprompt.data.check import Report, check
from vlmprompt.data.survey import survey
from vlmprompt.progress import SilentProgress

NAMES = list(LAYOUTS)


def look(name: str, root: Path, **options: bool) -> Report:
    return check(f"coop:{name}", root, SilentProgress(), **{"accept_split": True, **options})


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_data_set(name: str, tmp_path: Path) -> None:
    write_tree(tmp_path, name)
    report = look(name, tmp_path)
    n = len(LAYOUTS[name].classes)
    assert (report.status, report.problems, report.found) == ("ok", [], {"train": 4 * n, "val": 2 * n, "test": 2 * n})
    assert report.decoded and report.unreadable == report.missing == report.stray == []
    assert report.split["verified"] == "accepted" and report.notes == ["its split is not the published one"]
    refused = look(name, tmp_path, accept_split=False)
    assert refused.status == "problems" and "--accept-split" in refused.problems[0][1]


@pytest.mark.parametrize("name", NAMES)
def test_everything_wrong_at_once(name: str, tmp_path: Path) -> None:
    rows = write_tree(tmp_path, name)
    base = tmp_path / LAYOUTS[name].images
    gone, broken, cut = (rows[part][0][0] for part in ("train", "val", "test"))
    (base / gone).unlink()
    (base / broken).write_text("no image")
    (base / cut).write_bytes(PIXELS[:-200])
    (base / gone).with_name("stray (1).jpg").write_bytes(PIXELS)
    report = look(name, tmp_path)
    assert report.status == "problems" and report.missing == [gone]
    assert report.stray == [f"{gone.rpartition('/')[0]}/stray (1).jpg".removeprefix("/")]
    assert [path for path, _ in report.unreadable] == [broken, cut]
    assert report.unreadable[0][1] == "it is no image in a known format"
    assert "truncated" in report.unreadable[1][1].lower()
    n = len(LAYOUTS[name].classes)
    assert report.found == {"train": 4 * n - 1, "val": 2 * n, "test": 2 * n}
    quick = look(name, tmp_path, decode=False)
    assert quick.unreadable == [] and not quick.decoded and quick.missing == [gone]


@pytest.mark.parametrize("name", NAMES)
def test_what_stops_the_reading_is_a_problem(name: str, tmp_path: Path) -> None:
    absent = look(name, tmp_path)
    assert absent.status == "absent" and "there is no folder" in absent.problems[0][0]
    rows = write_tree(tmp_path, name)
    write_split(tmp_path, name, rows | {"val": [("../x.jpg", *rows["val"][0][1:])]})
    climbing = look(name, tmp_path)
    assert climbing.status == "problems" and "leaves the image folder" in climbing.problems[0][0]
    (tmp_path / LAYOUTS[name].split).unlink()
    assert "has no" in look(name, tmp_path).problems[0][0]


def test_folders_and_lists(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label in ("fox", "wolf"):
            (tmp_path / "photos" / split / label).mkdir(parents=True)
            (tmp_path / "photos" / split / label / "1.jpg").write_bytes(PIXELS + f"{split} {label}".encode())
    (tmp_path / "photos/test/wolf/1.jpg").write_text("no image")
    report = check("folder:photos", tmp_path, SilentProgress(), workers=2)
    assert report.found == {"train": 2, "test": 2} and report.expected == {}
    assert report.unreadable == [("test/wolf/1.jpg", "it is no image in a known format")]
    missing = check("folder:nowhere", tmp_path, SilentProgress())
    assert missing.status == "problems" and "there is no" in missing.problems[0][0]


def test_a_survey(tmp_path: Path) -> None:
    rows = {row["name"]: row for row in survey(tmp_path)}
    assert {row["status"] for row in rows.values()} == {"absent"} and len(rows) == 15
    for name in NAMES:
        write_tree(tmp_path, name)
    shutil.rmtree(tmp_path / "ucf101/UCF-101-midframes")
    (tmp_path / "sun397/split_zhou_SUN397.json").unlink()
    (tmp_path / "imagenet-r").mkdir()
    rows = {row["name"]: row for row in survey(tmp_path)}
    assert {name: row["lacks"] for name, row in rows.items() if row["status"] != "absent"} == {
        # Split files of unknown digest count as the published ones here; `check` counts their images.
        "food101": [],
        "fgvc_aircraft": [],
        "imagenet-r": [],
        "sun397": ["no split file"],
        "ucf101": ["not the published split file", "no images"],
        **{
            name: ["not the published split file"]
            for name in ("caltech101", "oxford_pets", "stanford_cars", "flowers102", "dtd", "eurosat")
        },
    }
    assert rows["food101"]["status"] == "there" and rows["ucf101"]["status"] == "incomplete"
    assert rows["dtd"]["folders"] == [str(tmp_path / "dtd")] and rows["dtd"]["images"]["test"] == 1692

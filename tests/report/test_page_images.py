"""Pictures on the page: thumbnails of test images, and what was drawn of a run."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.report.material import CHECKPOINT, details, key_of, measured, write_run
from vlmprompt.config.models import RunConfig
from vlmprompt.errors import InputError
from vlmprompt.report.loading import load
from vlmprompt.report.run import ReportRun
from vlmprompt.report.section import Picture, Pictures, Table, Text
from vlmprompt.report.sections import explained, images
from vlmprompt.report.thumbnails import AS_IT_IS, SIDE, WIDE, drawn, thumbnail
from vlmprompt.results.store import ResultStore, current

COLOURS = {"cat": (200, 30, 30), "dog": (30, 30, 200)}


def picture_of(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def colour_of(one: Picture) -> tuple[int, ...]:
    return tuple(round(c) for c in np.asarray(picture_of(one.data)).reshape(-1, 3).mean(axis=0))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of one colour each, in three splits; test images a and b of each."""
    for split in ("train", "val", "test"):
        for name, colour in COLOURS.items():
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for letter in "ab":
                # No two of one content, and none larger than a thumbnail but the first.
                size = (200, 100) if letter == "a" else (20, 40)
                image = Image.new("RGB", size, colour)
                image.putpixel((0, 0), (len(split), len(name), ord(letter)))
                image.save(tmp_path / "photos" / split / name / f"{letter}.png")
    return tmp_path / "photos"


IDS = ("test/cat/a.png", "test/cat/b.png", "test/dog/a.png", "test/dog/b.png")
P = [[0.125, 0.875], [0.75, 0.25], [0.75, 0.25], [0.5625, 0.4375]]  # wrong are 0 (surest), 2 and 3
LABEL = [0, 0, 1, 1]


def run_of(folder: Path, photos: Path, ids: tuple[str, ...] = IDS) -> ReportRun:
    spec = f"folder:{photos}"
    found = details(ids, ("cat", "dog"), P, LABEL, dataset=spec)
    config = RunConfig(method="coop", data=spec, backbone="tiny-vit", shots=1)
    rows = [measured("run", 1, value=0.25, n=4), measured("run", 2, metric="top5", suite="few-shot", value=0.25)]
    other = details(ids, ("cat", "dog"), P[::-1], LABEL, dataset=spec)
    write_run(folder / "run", rows, config=config, cells={key_of(1): found, key_of(2): other})
    file = folder / "run/results.jsonl"
    (run,) = load({file: current(ResultStore(file).read().rows)}).runs
    return run


def parts_of(run: ReportRun) -> list[object]:
    section = images.section([run])
    assert section is not None
    return list(section.parts)


def test_the_surest_mistakes_and_the_least_certain_images(tmp_path: Path, photos: Path) -> None:
    run = run_of(tmp_path, photos)
    mistakes, doubtful = parts_of(run)
    assert isinstance(mistakes, Pictures) and isinstance(doubtful, Pictures)
    assert mistakes.caption == "3 of 3 wrong of 4 test images (accuracy, test)."
    assert doubtful.caption == "4 of 4 test images (accuracy, test)."
    assert [one.lines for one in mistakes.pictures] == [
        ("said dog 87.5%", "is cat 12.5%"),
        ("said cat 75.0%", "is dog 25.0%"),
        ("said cat 56.2%", "is dog 43.8%"),
    ]
    assert doubtful.pictures[0].lines == ("said cat 56.2%", "then dog 43.8%", "is dog")
    assert doubtful.pictures[1].lines == ("said cat 75.0%", "then dog 25.0%", "right")
    for one, name in zip(mistakes.pictures, ("cat", "dog", "dog"), strict=True):
        assert colour_of(one) == pytest.approx(COLOURS[name], abs=3)
    assert mistakes.pictures[0].alt == "test/cat/a.png: said dog 87.5%, is cat 12.5%"
    # 200 x 100 was made smaller; 20 x 40 was not, and is shown as large as others.
    first, last = mistakes.pictures[0], mistakes.pictures[2]
    assert (picture_of(first.data).size, first.width, first.height) == ((96, 48), 96, 48)
    assert (picture_of(last.data).size, last.width, last.height) == ((20, 40), 48, 96)
    assert {one.kind for one in mistakes.pictures} == {"jpeg"}


def test_images_that_are_gone_or_of_another_class_are_counted(tmp_path: Path, photos: Path) -> None:
    run = run_of(tmp_path, photos)
    (photos / "test/cat/a.png").unlink()
    (photos / "test/dog/b.png").rename(photos / "test/cat/c.png")
    mistakes, _ = parts_of(run)
    assert isinstance(mistakes, Pictures)
    assert [one.alt.partition(":")[0] for one in mistakes.pictures] == ["test/dog/a.png"]
    gone = "2 more are not shown: they are gone, or changed, since they were measured."
    assert mistakes.caption == f"1 of 3 wrong of 4 test images (accuracy, test). {gone}"


def test_an_image_whose_class_has_another_name_is_not_shown(tmp_path: Path, photos: Path) -> None:
    run = run_of(tmp_path, photos)
    run = replace(run, details={key_of(1): details(IDS, ("cat", "wolf"), P, LABEL, f"folder:{photos}")})
    mistakes, _ = parts_of(run)
    assert isinstance(mistakes, Pictures)
    assert [one.alt.partition(":")[0] for one in mistakes.pictures] == ["test/cat/a.png"]


def test_an_image_that_cannot_be_read_is_counted_too(tmp_path: Path, photos: Path) -> None:
    run = run_of(tmp_path, photos)
    (photos / "test/cat/a.png").write_bytes(b"nothing")
    mistakes, _ = parts_of(run)
    assert isinstance(mistakes, Pictures) and len(mistakes.pictures) == 2


def test_a_data_set_that_is_gone_is_said(tmp_path: Path, photos: Path) -> None:
    run = run_of(tmp_path, photos)
    photos.rename(tmp_path / "elsewhere")
    (said,) = parts_of(run)
    assert isinstance(said, Text)
    assert said.text.startswith("The images of run cannot be shown: ") and str(photos) in said.text


@pytest.mark.parametrize("before", [None, "0"])
def test_nothing_is_fetched(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    run = run_of(tmp_path, photos)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    if before is not None:
        monkeypatch.setenv("HF_HUB_OFFLINE", before)
    asked: list[str | None] = []

    def load(config: RunConfig, root: Path | None) -> None:
        asked.append(os.environ.get("HF_HUB_OFFLINE"))
        raise InputError("not in the cache", hint="fetch it")

    monkeypatch.setattr(images, "load_run_dataset", load)
    assert parts_of(run) == [Text("The images of run cannot be shown: not in the cache (fetch it).")]
    assert asked == ["1"]
    assert os.environ.get("HF_HUB_OFFLINE") == before


def test_a_run_without_mistakes(tmp_path: Path, photos: Path) -> None:
    run = run_of(tmp_path, photos)
    run = replace(run, details={key_of(1): details(IDS, ("cat", "dog"), P, [1, 0, 0, 0], f"folder:{photos}")})
    said, doubtful = parts_of(run)
    assert said == Text("None of 4 test images was told wrong.")
    assert isinstance(doubtful, Pictures)


def test_nothing_is_shown_of_other_data_or_of_references(tmp_path: Path, photos: Path) -> None:
    run = run_of(tmp_path, photos)
    run = replace(run, details={key_of(1): details(IDS, ("cat", "dog"), P, LABEL, "folder:others")})
    assert images.section([run]) is None
    assert images.section([ReportRun("run", None, None, run.rows, reference=True)]) is None


def test_a_thumbnail_keeps_proportions_and_drops_notes() -> None:
    strip = Image.new("RGB", (2000, 5), (10, 200, 10))
    strip.info = {"comment": b"secret", "icc_profile": b"secret", "exif": b"secret"}
    data, width, height = thumbnail(strip)
    assert (width, height) == (SIDE, 1) == picture_of(data).size
    assert b"secret" not in data
    assert thumbnail(strip)[0] == data and strip.info["comment"] == b"secret"


def test_a_small_drawing_is_taken_as_it_is_and_a_large_one_made_smaller(tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), "teal").save(tmp_path / "small.png")
    noise = np.random.default_rng(0).integers(0, 255, (400, 2000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    assert drawn(tmp_path / "small.png") == ((tmp_path / "small.png").read_bytes(), "png", 300, 200)
    data, kind, width, height = drawn(tmp_path / "large.png")
    assert (kind, width, height) == ("jpeg", WIDE, 200) and picture_of(data).size == (WIDE, 200)


def test_a_drawing_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "none.png").write_bytes(b"\x89PNG")
    (tmp_path / "huge.svg").write_bytes(b"<svg>" + b" " * AS_IT_IS)
    for name, message in (("none.png", "none.png"), ("huge.svg", "too large"), ("gone.png", "No such file")):
        with pytest.raises(InputError, match=message):
            drawn(tmp_path / name)


def explained_run(folder: Path, **content: object) -> ReportRun:
    write_run(folder / "run", [measured("run", value=0.5)])
    (folder / "run/explain").mkdir()
    document = {"version": 1, "run": "run", "checkpoint": CHECKPOINT, **content}
    (folder / "run/explain/explain.json").write_text(json.dumps(document))
    file = folder / "run/results.jsonl"
    found = load({file: current(ResultStore(file).read().rows)})
    assert found.left_out == []
    return found.runs[0]


def test_what_was_drawn_is_shown(tmp_path: Path) -> None:
    one = {"file": "a.png", "kind": "map", "title": "Map", "caption": "brighter is more", "pointing": 0.75}
    image = {"id": "cat/1", "path": "x", "true": "cat", "predicted": "dog", "probability": 0.71, "pictures": [one]}
    table = {"title": "Words", "columns": ["token", "distance"], "rows": [["a", 0.123456], [None, 2]], "caption": "c"}
    figure = {"file": "b.svg", "title": "Gates", "caption": "n = 3"}
    run = explained_run(tmp_path, images=[image], tables=[table], figures=[figure])
    assert run.explained is not None
    Image.new("RGB", (30, 20), "teal").save(run.explained.folder / "a.png")
    (run.explained.folder / "b.svg").write_text("<svg/>")
    section = explained.section([run])
    assert section is not None
    gates, shown, words = section.parts
    assert isinstance(gates, Pictures) and isinstance(shown, Pictures) and isinstance(words, Table)
    assert (gates.title, gates.pictures[0].kind, gates.pictures[0].data) == ("Gates", "svg+xml", b"<svg/>")
    assert (shown.title, shown.caption) == ("cat/1", "said dog 71.0%; is cat")
    assert shown.pictures[0].lines == ("Map", "brighter is more", "pointing score 0.750")
    assert words.rows == (("a", "0.1235"), ("–", "2"))


def test_drawings_outside_of_the_folder_and_beyond_the_room_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (3, 3)).save(tmp_path / "private.png")
    pictures = [{"file": name} for name in ("../../private.png", "a.png", "a.png", "gone.png")]
    run = explained_run(tmp_path, images=[{"id": "one", "predicted": "cat", "pictures": pictures}])
    assert run.explained is not None
    Image.new("RGB", (3, 3)).save(run.explained.folder / "a.png")
    monkeypatch.setattr(explained, "ROOM", (run.explained.folder / "a.png").stat().st_size)
    section = explained.section([run])
    assert section is not None
    shown, said = section.parts
    assert isinstance(shown, Pictures) and len(shown.pictures) == 1
    assert isinstance(said, Text)
    for text in ("../../private.png lies outside of", "a.png, for want of room", "gone.png: No such file"):
        assert text in said.text

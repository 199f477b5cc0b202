"""A run and images in, pictures and an explain.json that names them out."""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.evaluation.test_context import make_bank, make_context
from tests.evaluation.test_pointing import Half
from tests.training.material import Hooked
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.data.images import read_image
from vlmprompt.data.records import Dataset, Record
from vlmprompt.errors import InputError, UsageError
from vlmprompt.evaluation.suites.pointing import PointingSuite
from vlmprompt.explain import entries, explain, pictures
from vlmprompt.explain.learned import learned_tables
from vlmprompt.explain.written import FILE
from vlmprompt.progress import SilentProgress
from vlmprompt.training.runs import Run


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are empty files, which cost nothing."""
    monkeypatch.setattr(entries, "draw", lambda *args: b"")


def test_what_is_written(coop_run: Run, tiny_backbone: Backbone, tmp_path: Path) -> None:
    found = explain(coop_run, out=tmp_path, n=3, seed=4, backbone=tiny_backbone)
    content = json.loads((tmp_path / FILE).read_text())
    assert content == found.content and found.failed == ()
    words = learned_tables(coop_run, coop_run.build_method(tiny_backbone))
    assert {key: content[key] for key in ("version", "run", "checkpoint", "tables")} == {
        "version": 1,
        "run": coop_run.name,
        "checkpoint": hashlib.sha256((coop_run.path / "checkpoint.safetensors").read_bytes()).hexdigest(),
        "tables": [table | {"by": None} for table in words],
    }
    records = list(coop_run.load_dataset().split("test"))
    random.Random(4).shuffle(records)
    assert [image["id"] for image in content["images"]] == [record.id for record in records[:3]]
    assert [image["path"] for image in content["images"]] == [str(record.image) for record in records[:3]]
    classify = coop_run.classifier(tiny_backbone)(records[:3])
    for i, (image, record) in enumerate(zip(content["images"], records[:3], strict=True)):
        assert image["true"] == coop_run.class_names[record.label]
        assert image["predicted"] == classify.names[i]
        assert image["probability"] == pytest.approx(float(classify.probabilities_BK[i].max()), abs=1e-5)
        assert [own["kind"] for own in image["pictures"]] == ["attention", "cosines"]
        assert all(own["pointing"] is own["chance"] is None for own in image["pictures"])  # no masks
        rows = 1 if image["true"] == image["predicted"] else 2
        for own in image["pictures"]:
            with Image.open(tmp_path / own["file"]) as picture:
                assert picture.format == "PNG"
                assert picture.height / picture.width == pytest.approx(rows * 2.14 / 6.1, rel=0.06)
            assert "zero-shot CLIP" in own["caption"] and image["predicted"] in own["caption"]
    (sheet,) = content["figures"]
    assert "Fig" not in sheet["caption"] and sheet["caption"].endswith("n = 3.")
    with Image.open(tmp_path / sheet["file"]) as picture:  # three rows
        assert picture.height / picture.width == pytest.approx(3 * 2.14 / 6.1, rel=0.06)
    assert {file.name for file in tmp_path.iterdir()} == {FILE, sheet["file"], *(path.name for path in found.pictures)}
    assert len(found.pictures) == 6
    assert all(p.grad is None for p in tiny_backbone.model.parameters())


def test_the_same_seed_gives_the_same_bytes_and_an_earlier_call_makes_room(
    coop_run: Run, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(coop_run.path, own)
    run = replace(coop_run, path=own)
    explain(run, n=2, seed=1, backbone=tiny_backbone)
    first = {file.name: file.read_bytes() for file in (own / "explain").iterdir()}
    (own / "explain/notes.txt").write_text("mine")
    explain(run, n=1, seed=2, backbone=tiny_backbone)
    assert len(list((own / "explain").glob("*.png"))) == 2
    explain(run, n=2, seed=1, backbone=tiny_backbone)
    assert (own / "explain/notes.txt").read_text() == "mine"
    assert first == {file.name: file.read_bytes() for file in (own / "explain").iterdir() if file.suffix != ".txt"}


DAMAGED = ["{", "[]", '{"images": 3}', '{"images": [{"pictures": [{"file": "../keep.png"}, {"file": "a.txt"}]}]}']


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("content", DAMAGED)
def test_nothing_is_removed_at_the_word_of_a_damaged_file(
    coop_run: Run, tiny_backbone: Backbone, tmp_path: Path, content: str
) -> None:
    """In the run's own folder it makes room; elsewhere it may be somebody's."""
    own, folder = tmp_path / "own", tmp_path / "own/explain"
    shutil.copytree(coop_run.path, own)
    folder.mkdir()
    (own / "keep.png").touch()
    (folder / "a.txt").touch()
    (folder / FILE).write_text(content)
    with pytest.raises(InputError, match="was not written by 'vlmprompt explain'"):
        explain(coop_run, out=folder, n=1, backbone=tiny_backbone)
    assert (folder / FILE).read_text() == content and len(list(folder.iterdir())) == 2
    explain(replace(coop_run, path=own), n=1, backbone=tiny_backbone)
    assert json.loads((folder / FILE).read_text())["version"] == 1
    assert (own / "keep.png").exists() and (folder / "a.txt").exists()


@pytest.mark.usefixtures("undrawn")
def test_what_is_not_of_an_earlier_call_is_not_replaced(coop_run: Run, tiny_backbone: Backbone, tmp_path: Path) -> None:
    (tmp_path / "attention.png").write_text("mine")
    with pytest.raises(InputError, match=r"attention\.png is not of an earlier call"):
        explain(coop_run, out=tmp_path, n=2, backbone=tiny_backbone)
    assert [file.name for file in tmp_path.iterdir()] == ["attention.png"]
    assert (tmp_path / "attention.png").read_text() == "mine"
    explain(coop_run, out=tmp_path, n=1, backbone=tiny_backbone)  # one image has no such sheet
    (tmp_path / "attention.png").unlink()
    explain(coop_run, out=tmp_path, n=2, backbone=tiny_backbone)
    explain(coop_run, out=tmp_path, n=2, backbone=tiny_backbone)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(InputError, match=f"holds pictures of another run, '{coop_run.name}'"):
        explain(replace(coop_run, path=tmp_path / "other"), out=tmp_path, n=1, backbone=tiny_backbone)
    assert before == {file: file.read_bytes() for file in tmp_path.iterdir()}


def test_an_interrupted_call_leaves_the_pictures_of_the_one_before(
    coop_run: Run, tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = iter([b"a", b"b", b"c", b"d", b"e"])  # two pictures of one image, then three and no more
    monkeypatch.setattr(entries, "draw", lambda *args: next(drawn))
    explain(coop_run, out=tmp_path / "out", n=1, backbone=tiny_backbone)
    before = {file: file.read_bytes() for file in (tmp_path / "out").iterdir()}

    def interrupted(*args: Any) -> bytes:
        for content in drawn:
            return content
        raise KeyboardInterrupt

    monkeypatch.setattr(entries, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        explain(coop_run, out=tmp_path / "out", n=2, backbone=tiny_backbone)
    assert before == {file: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    with pytest.raises(KeyboardInterrupt):
        explain(coop_run, out=tmp_path / "new/er", n=2, backbone=tiny_backbone)
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


@pytest.mark.usefixtures("undrawn")
def test_probabilities_are_calibrated_as_those_of_predict(
    coop_run: Run, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    own, out = tmp_path / "own", tmp_path / "out"
    shutil.copytree(coop_run.path, own)
    run, progress = replace(coop_run, path=own), Hooked()
    content = {"temperature": 2.5, "split": "test", "n": 20, "checkpoint": run.digest}
    (own / "calibration.json").write_text(json.dumps(content))
    found = explain(run, out=out, n=2, backbone=tiny_backbone, progress=progress)
    records = list(coop_run.load_dataset().split("test"))
    random.Random(1).shuffle(records)
    logits_BK = coop_run.classifier(tiny_backbone)(records[:2]).probabilities_BK.log()
    expected_B = (logits_BK / 2.5).softmax(dim=1).amax(dim=1).tolist()
    assert [image["probability"] for image in found.content["images"]] == pytest.approx(expected_B, abs=1e-5)
    assert "temperature 2.5" in progress.messages[0]
    (own / "calibration.json").write_text(json.dumps(content | {"checkpoint": "0" * 64}))
    plain = explain(run, out=out, n=2, backbone=tiny_backbone, progress=progress)
    assert plain.content["images"][0]["probability"] == pytest.approx(float(logits_BK[0].exp().max()), abs=1e-5)
    (told,) = progress.warnings
    assert "another checkpoint" in told and told.endswith("; the probabilities are those without it")


@pytest.mark.usefixtures("undrawn")
def test_letters_that_the_font_lacks_are_said_once(
    coop_run: Run, photos: Path, tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vlmprompt.explain.draw import lacking

    assert lacking("Grauer Wolf, лось, ñandú $ \\") == "" and lacking("ein 狼") == "狼"
    monkeypatch.setattr(entries.Entries, "_class", lambda self, label: f"{coop_run.class_names[label]} 狼")
    named, progress = photos / "test/red_fox", SilentProgress()
    found = explain(coop_run, named, out=tmp_path, backbone=tiny_backbone, progress=progress)
    predicted = found.content["images"][0]["predicted"]
    assert len(progress.warnings) == 1
    assert repr(predicted) in progress.warnings[0] and "boxes" in progress.warnings[0]


@pytest.mark.usefixtures("undrawn")
def test_mistakes_are_the_first_in_the_same_order(coop_run: Run, tiny_backbone: Backbone, tmp_path: Path) -> None:
    records = list(coop_run.load_dataset().split("test"))
    random.Random(1).shuffle(records)
    labels = coop_run.classifier(tiny_backbone)(records).labels_B.tolist()
    wrong = [record.id for record, label in zip(records, labels, strict=True) if record.label != label]
    assert 2 < len(wrong) < len(records)  # or this would show nothing
    found = explain(coop_run, out=tmp_path, n=2, which="mistakes", backbone=tiny_backbone)
    assert [image["id"] for image in found.content["images"]] == wrong[:2]
    assert all(image["true"] != image["predicted"] for image in found.content["images"])
    progress = Hooked()
    every = explain(coop_run, out=tmp_path, n=100, which="mistakes", backbone=tiny_backbone, progress=progress)
    assert [image["id"] for image in every.content["images"]] == wrong
    assert progress.messages == ["the run takes no more of its 20 test images for another class"]


def test_a_run_without_mistakes(
    coop_run: Run, tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "shuffled_test", lambda *args: [])
    with pytest.raises(InputError, match="takes no test image for another class"):
        explain(coop_run, out=tmp_path / "out", which="mistakes", backbone=tiny_backbone)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("undrawn")
def test_images_that_are_named(coop_run: Run, photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    stray = tmp_path / "holiday/a $x^2$ photo.png"
    stray.parent.mkdir()
    shutil.copy(photos / "test/blue whale/0.png", stray)
    (stray.parent / "notes.txt").touch()
    # Folders are read as class folders are: "red_fox" is the class "red fox".
    named = [photos / "test/red_fox", stray.parent, str(photos / "test/grey wolf/1.png"), stray]
    found = explain(coop_run, named, out=tmp_path / "out", backbone=tiny_backbone)
    assert [image["true"] for image in found.content["images"]] == ["red fox"] * 5 + [None, "grey wolf"]
    assert found.content["images"][5]["path"] == str(stray)
    assert found.content["images"][5]["pictures"][0]["file"] == "006-holiday-a-x-2-photo-png-attention.png"
    rows = [image["pictures"][0]["caption"].count(";") for image in found.content["images"]]
    assert rows[5] == 0  # of an unknown class, one row


@pytest.mark.usefixtures("undrawn")
def test_an_image_that_cannot_be_read_leaves_the_others(
    coop_run: Run, photos: Path, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    progress = SilentProgress()
    named = [broken, photos / "test/red_fox/0.png"]
    found = explain(coop_run, named, out=tmp_path / "out", backbone=tiny_backbone, progress=progress)
    one = explain(coop_run, named[1], out=tmp_path / "one", backbone=tiny_backbone)
    assert one.content["images"] == found.content["images"]
    assert len(found.content["images"]) == 1 and len(found.failed) == 1
    assert "broken.png" in found.failed[0] and progress.warnings == list(found.failed)
    with pytest.raises(InputError, match=r"no image could be read: cannot read image .*broken\.png"):
        explain(coop_run, [broken], out=tmp_path / "none", backbone=tiny_backbone)
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("undrawn")
def test_the_pointing_of_pictures_is_that_of_the_suite(
    gallop_run: Run, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    records = [Record(f"{label}/{i}", label, Half(90 + 40 * label + 5 * i)) for label in range(4) for i in range(2)]
    found = explain(gallop_run, records, out=tmp_path, backbone=tiny_backbone)
    patches = [own for image in found.content["images"] for own in image["pictures"] if own["kind"] == "patches"]
    assert len(patches) == 8 and {own["chance"] for own in patches} == {0.5}
    dataset = Dataset("halves", "made-up:halves", gallop_run.class_names, {"test": tuple(records)})
    method = gallop_run.build_method(tiny_backbone)
    (cell,) = PointingSuite().cells(make_context(dataset, make_bank(tiny_backbone), method))
    values = {value.metric: value.value for value in cell.compute()}
    assert np.mean([own["pointing"] for own in patches]) == pytest.approx(values["on_object"], abs=1e-6)
    assert values["on_object"] != 0.5
    attention = [image["pictures"][0] for image in found.content["images"]]
    assert all(own["kind"] == "attention" and 0 < own["pointing"] < 1 for own in attention)


@pytest.mark.usefixtures("undrawn")
def test_a_run_of_some_classes_sees_test_images_of_these(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    from tests.training.material import config, runtime
    from vlmprompt.training.run import train
    from vlmprompt.training.runs import load_run

    settings = config(photos, method="zeroshot", setting="base-to-new", shots=1)
    run = load_run(train(settings, runtime(tmp_path), backbone=tiny_backbone).run)
    found = explain(run, n=100, backbone=tiny_backbone)
    assert {image["true"] for image in found.content["images"]} == set(run.class_names) and len(run.class_names) == 2
    assert len(found.content["images"]) == 10
    # Nothing stands beside zero-shot CLIP, which is the run itself.
    assert "First zero-shot CLIP" not in found.content["images"][0]["pictures"][0]["caption"]


@pytest.mark.usefixtures("undrawn")
def test_a_damaged_log_costs_its_curves_alone(coop_run: Run, tiny_backbone: Backbone, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(coop_run.path, own)
    (own / "log.jsonl").write_text("{")
    progress = SilentProgress()
    found = explain(replace(coop_run, path=own), n=1, backbone=tiny_backbone, progress=progress)
    assert len(found.pictures) == 2 and found.content["figures"] == []
    assert len(progress.warnings) == 1 and "log.jsonl" in progress.warnings[0]


def test_what_is_refused(coop_run: Run, tiny_backbone: Backbone, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown choice"):
        explain(coop_run, out=tmp_path, which="mistaken", backbone=tiny_backbone)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="shows no image"):
        explain(coop_run, out=tmp_path, n=0, backbone=tiny_backbone)
    with pytest.raises(UsageError, match="no image is named"):
        explain(coop_run, [], out=tmp_path, backbone=tiny_backbone)
    unfinished = replace(coop_run, info=coop_run.info.model_copy(update={"status": "interrupted"}))
    with pytest.raises(InputError, match="is not finished"):
        explain(unfinished, out=tmp_path, backbone=tiny_backbone)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        explain(coop_run, out=tmp_path / "file", backbone=tiny_backbone)


def test_the_picture_shows_what_the_tower_sees(tiny_backbone: Backbone, photos: Path) -> None:
    from vlmprompt.explain.draw import pixels

    image = read_image(Record("x", 0, photos / "test/blue whale/0.png"))
    seen = pixels(tiny_backbone.transform(train=False)(image), tiny_backbone.preprocess)
    square = image.resize((32, 35), Image.Resampling.BICUBIC)
    expected = np.asarray(square.crop((0, 2, 32, 34))) / 255  # torchvision rounds 1.5 up
    assert np.abs(seen - expected).max() < 0.02


def test_the_panels_of_a_picture(tmp_path: Path) -> None:
    """Chosen patches are as they are, others pale; maps take the ends of the scale where they are least and largest."""
    from vlmprompt.explain.draw import BAR, DPI, MARGIN, PANEL, TEXT, Panel, Row, draw

    image = np.zeros((4, 8, 3)) + np.array([0.8, 0.1, 0.1])  # wide: 2 x 4 patches
    values_N = torch.tensor([0.0, 1, 0, 0, 0, 0, 0, 1])
    rows = [Row("true\na $class$ _{of} signs", image, (Panel("prompt 1", values_N, "25% on the object"),))] * 2

    def drawn(kind: Any) -> np.ndarray[Any, Any]:
        with Image.open(io.BytesIO(draw((2, 4), kind, rows))) as picture:
            return np.asarray(picture.convert("RGB")) / 255

    def middle_of(picture: np.ndarray[Any, Any], patch: int) -> Any:
        high = PANEL / 2
        y = (TEXT + (patch // 4 + 0.5) * high / 2) * DPI
        x = (2 * MARGIN + PANEL + (patch % 4 + 0.5) * PANEL / 4) * DPI
        return picture[round(y) + round(MARGIN * DPI), round(x)]

    patches, attention = drawn("patches"), drawn("attention")
    assert patches.shape[:2] == (round((2 * (PANEL / 2 + TEXT) + MARGIN) * DPI), int((2 * PANEL + 3 * MARGIN) * DPI))
    assert attention.shape[1] == pytest.approx(patches.shape[1] + BAR * DPI, abs=1)
    for patch in range(8):
        seen, over = middle_of(patches, patch), middle_of(attention, patch)
        if values_N[patch]:
            assert np.abs(seen - [0.8, 0.1, 0.1]).max() < 0.01
            assert over[1] > 0.6 and over[2] < 0.3  # yellow
        else:
            assert seen.min() > 0.7 and np.ptp(seen) < 0.01
            assert over[1] < 0.25 and over[2] > 0.25  # violet


def test_a_narrow_image_leaves_room_for_words() -> None:
    from vlmprompt.explain.draw import DPI, MARGIN, PANEL, Panel, Row, draw

    image = np.zeros((8, 2, 3))
    panels = (Panel("zero-shot CLIP", torch.zeros(4), "47% on the object"),)
    with Image.open(io.BytesIO(draw((4, 1), "patches", [Row("true\nfox", image, panels)]))) as picture:
        assert picture.width == int((2 * (PANEL + MARGIN) + MARGIN) * DPI)
        seen = np.asarray(picture.convert("L"))
    black = np.flatnonzero(seen[seen.shape[0] // 2] < 10)  # of the first image, in the middle of its place
    assert (black[0] + black[-1] + 1) / 2 == pytest.approx((MARGIN + PANEL / 2) * DPI, abs=2)
    assert len(black) == pytest.approx(PANEL / 4 * DPI, abs=3)


def test_names_that_do_not_fit_are_cut() -> None:
    from vlmprompt.explain.draw import short

    assert short("fox") == "fox"
    assert short("a very long name of a class indeed") == "a very long name of a cla…"
    assert short("W" * 26) == "W" * 16 + "…"  # 17.1 times 7.5 pt, of 1.8 inches; "…" is as wide as W
    assert short("i" * 26) == "i" * 26
    assert short("a\x1b[31mfox") == "a\\u001b[31mfox"

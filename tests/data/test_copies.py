"""The same image in several places: what is the same, what stops a run, what is only said."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from vlmprompt.data import contents, copies
from vlmprompt.data.check import check
from vlmprompt.data.contents import files_digest
from vlmprompt.data.copies import find_copies, is_published, settle_copies
from vlmprompt.data.fewshot import sample
from vlmprompt.data.load import load_dataset
from vlmprompt.data.near import Look, look_of, pairs_alike
from vlmprompt.data.records import Dataset, Record
from vlmprompt.errors import InputError
from vlmprompt.progress import SilentProgress

MakeTree = Callable[[Iterable[str]], Path]
TREE = [f"{split}/{name}/{i}.png" for split in ("train", "test") for name in ("cat", "dog") for i in range(3)]


@pytest.fixture
def photos(make_tree: MakeTree) -> Path:
    return make_tree(TREE)


def copy(photos: Path, old: str, new: str) -> None:
    (photos / new).write_bytes((photos / old).read_bytes())


def link(photos: Path, old: str, new: str) -> None:
    (photos / new).symlink_to(photos / old)


def hard_link(photos: Path, old: str, new: str) -> None:
    os.link(photos / old, photos / new)


def settled(spec: str, shots: int | None = None, *, allow: bool = False, seed: int = 1) -> tuple[Dataset, Any]:
    dataset = load_dataset(spec)
    return settle_copies(dataset, sample(dataset, shots, seed), allow=allow)


def test_different_images_are_no_copies(photos: Path) -> None:
    dataset, split = settled(f"folder:{photos}")
    assert find_copies(dataset.splits) == [] and split.doubts == () and "overlap" not in dataset.notes


@pytest.mark.parametrize("make", [copy, link, hard_link])
def test_a_test_image_in_train_stops_before_training(photos: Path, make: Callable[[Path, str, str], None]) -> None:
    make(photos, "test/dog/1.png", "train/cat/other name.png")
    with pytest.raises(InputError) as error:
        settled(f"folder:{photos}", 1)
    expected = f"1 image is in more than one split of folder:{photos}"
    assert error.value.message == f"{expected}, such as train/cat/other name.png (train), test/dog/1.png (test)"
    assert error.value.hint and error.value.hint.endswith("or accept it: --allow-overlap")
    dataset, split = settled(f"folder:{photos}", 1, allow=True)
    assert dataset.notes["overlap"]["images"] == 1  # type: ignore[index]
    assert split.doubts == (f"{error.value.message} (accepted)",)


def test_twice_in_one_split_is_said(photos: Path) -> None:
    copy(photos, "train/cat/0.png", "train/cat/again.png")
    copy(photos, "train/cat/0.png", "train/dog/wrong.png")
    dataset, split = settled(f"folder:{photos}")
    doubt, _ = split.doubts
    assert doubt.startswith(f"1 image is repeated within a split of folder:{photos} and counted each time, such as ")
    assert all(name in doubt for name in ("train/cat/0.png", "train/cat/again.png", "train/dog/wrong.png"))
    assert "overlap" not in dataset.notes


def test_one_image_under_two_classes_is_said(photos: Path) -> None:
    copy(photos, "train/cat/0.png", "train/cat/again.png")
    copy(photos, "train/cat/1.png", "train/dog/of a cat.png")
    repeated, torn = settled(f"folder:{photos}")[1].doubts
    assert repeated.startswith("2 images are repeated within a split")
    assert torn.startswith("1 image is under different classes, such as train/cat/1.png (train)")


@pytest.mark.parametrize("pair", [("train", "val"), ("val", "test")])
def test_validation_images_count_as_well(make_tree: MakeTree, pair: tuple[str, str]) -> None:
    photos = make_tree(f"{split}/cat/{i}.png" for split in ("train", "val", "test") for i in range(2))
    copy(photos, f"{pair[0]}/cat/0.png", f"{pair[1]}/cat/new.png")
    with pytest.raises(InputError, match="in more than one split"):
        settled(f"folder:{photos}", 1)


def test_lists_that_name_an_image_twice(photos: Path) -> None:
    rows = ["path,label,split", "train/cat/0.png,cat,train", "./train/cat/0.png,cat,test", "train/dog/0.png,dog,train"]
    (photos / "list.csv").write_text("\n".join(rows))
    with pytest.raises(InputError, match=r"train/cat/0.png \(train\), train/cat/0.png \(test\)"):
        settled(f"csv:{photos}/list.csv")
    assert settled(f"csv:{photos}/list.csv", allow=True)[0].notes["overlap"]
    (photos / "list.csv").write_text("\n".join([*rows[:2], *rows[1:2], rows[3]]))
    assert "repeated within a split" in settled(f"csv:{photos}/list.csv")[1].doubts[0]


def test_a_drawn_split_does_not_part_copies(make_tree: MakeTree) -> None:
    photos = make_tree(f"cat/{i}.png" for i in range(6))
    for i in range(6):
        copy(photos, "cat/0.png", f"cat/copy {i}.png")
    with pytest.raises(InputError, match="in more than one split"):
        settled(f"folder:{photos}", 1)


def test_images_in_shards_are_compared_by_their_bytes(photos: Path) -> None:
    (photos / "shards").mkdir()
    for split, images in {"train": ["train/cat/0.png", "train/cat/1.png"], "test": ["train/cat/1.png"]}.items():
        with tarfile.open(photos / f"shards/{split}.tar", "w") as tar:
            for i, image in enumerate(images):
                for name, data in ((f"{i}.png", (photos / image).read_bytes()), (f"{i}.cls", b"cat")):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tar.addfile(member, BytesIO(data))
    with pytest.raises(InputError, match=r"train.tar/1.png \(train\), test.tar/0.png \(test\)"):
        settled(f"wds:{photos}/shards")


def test_of_large_data_sets_the_shots_are_compared(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "WHOLE", 5)
    copy(photos, "test/dog/1.png", "train/cat/other.png")
    outcomes = set()
    for seed in range(12):
        dataset = load_dataset(f"folder:{photos}")
        split = sample(dataset, 1, seed)
        drawn = "train/cat/other.png" in {record.id for record in split.train}
        try:
            settle_copies(dataset, split, allow=False)
            stopped = False
        except InputError:
            stopped = True
        assert stopped == drawn
        outcomes.add(drawn)
    assert outcomes == {True, False}
    with pytest.raises(InputError):
        settled(f"folder:{photos}", None)


def test_bytes_are_read_of_equally_large_images_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i, size in enumerate((5, 6, 7, 7, 7, 0, 0)):
        (tmp_path / str(i)).write_bytes(bytes([i % 4]) * size)
    read: list[str] = []
    monkeypatch.setattr(contents, "_file_digest", lambda path, seen: read.append(Path(path).name) or path.encode())
    records = [Record(str(i), 0, tmp_path / str(i)) for i in range(7)]
    find_copies({"train": records[:2], "test": records[2:]}, among=["train"])
    assert read == []
    find_copies({"train": records[:3], "test": records[3:]}, among=["train"])
    assert read == ["2", "3", "4"]


def test_a_published_split_is_as_it_is(photos: Path) -> None:
    copy(photos, "test/dog/1.png", "train/cat/other.png")
    dataset = load_dataset(f"folder:{photos}")
    for verified, published in {"sha256": True, "counts": True, "folders": True, "accepted": False}.items():
        noted = Dataset("x", "coop:x", dataset.class_names, dataset.splits, notes={"split": {"verified": verified}})
        assert is_published(noted) == published
        if published:
            assert settle_copies(noted, sample(noted, 1, 1), allow=False)[1].doubts[0].endswith("(as published)")
    assert not is_published(dataset)


def test_what_files_are_known_by(photos: Path) -> None:
    records = load_dataset(f"folder:{photos}").split("test")
    before = {key: files_digest(records, **key_args) for key, key_args in KINDS.items()}
    os.utime(photos / "test/cat/0.png", ns=(1, 1))
    assert changed(records, before) == {"times"}
    (photos / "test/cat/0.png").write_bytes((photos / "test/cat/0.png").read_bytes() + b"x")
    assert changed(records, before) == {"times", "sizes", "contents"}
    (photos / "test/cat/0.png").unlink()
    assert changed(records, before) == {"times", "sizes", "contents"}


KINDS: dict[str, dict[str, bool]] = {"times": {}, "sizes": {"times": False}, "contents": {"contents": True}}


def changed(records: Iterable[Record], before: dict[str, str]) -> set[str]:
    return {key for key, how in KINDS.items() if files_digest(list(records), **how) != before[key]}


# -- `data check` -------------------------------------------------------------------------------------------
def test_check_finds_copies(photos: Path) -> None:
    copy(photos, "test/dog/1.png", "train/cat/other.png")
    copy(photos, "train/cat/0.png", "train/cat/again.png")
    report = check(f"folder:{photos}", None, SilentProgress())
    assert report.status == "problems"
    assert [found.public() for found in report.copies] == [
        {"images": ["train/cat/0.png", "train/cat/again.png"], "splits": ["train", "train"]},
        {"images": ["train/cat/other.png", "test/dog/1.png"], "splits": ["train", "test"]},
    ]
    assert [message for message, _ in report.problems] == [
        f"1 image is in more than one split of folder:{photos}, such as train/cat/other.png (train), "
        "test/dog/1.png (test)"
    ]
    assert check(f"folder:{photos}", None, SilentProgress(), allow_overlap=True).status == "ok"


def scene(seed: int) -> Image.Image:
    """A picture with structure: blurred noise."""
    noise = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    return noise.filter(ImageFilter.GaussianBlur(4))


def test_near_finds_an_image_that_was_saved_again(make_tree: MakeTree) -> None:
    photos = make_tree(["train/cat/", "test/cat/"])
    picture, other = scene(0), scene(1)
    picture.save(photos / "train/cat/a.png")
    picture.resize((128, 96)).save(photos / "test/cat/b.jpg", quality=80)
    other.save(photos / "test/cat/c.png")
    spec = f"folder:{photos}"
    assert check(spec, None, SilentProgress()).near == []
    report = check(spec, None, SilentProgress(), near=True)
    assert [found.public()["images"] for found in report.near] == [["train/cat/a.png", "test/cat/b.jpg"]]
    assert report.status == "ok" and report.copies == []


def test_the_rule_of_near() -> None:
    """Bits by hand: a ramp to the right is brighter in all 64 right neighbours and in no lower one."""
    ramp = Image.linear_gradient("L").rotate(90).convert("RGB")
    assert look_of(ramp).bits == (1 << 128) - (1 << 64)
    assert look_of(Image.new("RGB", (30, 20), (10, 200, 30))) == Look(0, (10, 200, 30))
    base = Look((1 << 128) - 1, (100, 100, 100))
    looks = [
        base,
        Look(base.bits ^ 0b11111111, (124, 76, 100)),
        Look(base.bits ^ 0b111111111, (100, 100, 100)),
        Look(base.bits, (100, 100, 125)),
    ]
    # The third is 9 bits from the first, and one from the second; the last is too blue.
    assert pairs_alike(looks) == [(0, 1), (1, 2)]

"""wds: shards to records."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from vlmprompt.data.images import read_image
from vlmprompt.data.load import load_dataset
from vlmprompt.errors import InputError

SAMPLE: dict[str, bytes | str] = {"1.cls": "cat", "1.png": b"x"}


def png(colour: tuple[int, int, int]) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (7, 5), colour).save(content, format="PNG")
    return content.getvalue()


def write_shard(path: Path, members: dict[str, bytes | str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def test_the_layout_of_clip_benchmark(tmp_path: Path) -> None:
    """Folders of splits, `classnames.txt`, integer labels; parts of a sample in any order."""
    (tmp_path / "food").mkdir()
    (tmp_path / "food/classnames.txt").write_text("apple pie\nrisotto\n")
    write_shard(
        tmp_path / "food/train/0.tar",
        {"s0.cls": "1", "s0.png": png((1, 2, 3)), "s1.png": png((9, 9, 9)), "s1.cls": "0\n"},
    )
    write_shard(tmp_path / "food/train/1.tar", {"s0.png": png((4, 5, 6)), "s0.json": "{}", "s0.cls": "0"})
    write_shard(tmp_path / "food/test/0.tar", {"s0.png": png((7, 8, 9)), "s0.cls": "1"})
    dataset = load_dataset("wds:food", root=tmp_path)
    assert (dataset.name, dataset.class_names) == ("food", ("apple pie", "risotto"))
    assert [(r.id, r.label) for r in dataset.split("train")] == [
        ("train/0.tar/s0.png", 1),
        ("train/0.tar/s1.png", 0),
        ("train/1.tar/s0.png", 0),
    ]
    assert [read_image(r).getpixel((0, 0)) for r in dataset.split("train")] == [(1, 2, 3), (9, 9, 9), (4, 5, 6)]
    assert read_image(dataset.split("test")[0]).size == (7, 5)
    again = pickle.loads(pickle.dumps(dataset.split("test")[0]))
    assert read_image(again).getpixel((0, 0)) == (7, 8, 9)
    assert dataset.notes["shards"] == ["test/0.tar", "train/0.tar", "train/1.tar"]


def test_a_pattern_and_names_as_labels(tmp_path: Path) -> None:
    for i, label in enumerate(["red fox", "grey wolf"]):
        members: dict[str, bytes | str] = {}
        for k in range(5):
            members |= {f"deep/{k}.png": png((i, k, 0)), f"deep/{k}.cls": label}
        write_shard(tmp_path / f"animals-00000{i}.tar", members)
    write_shard(tmp_path / "animals-000007.tar", {"x.txt": "not in the pattern"})
    dataset = load_dataset(f"wds:{tmp_path}/animals-{{000000..000001}}.tar")
    assert dataset.class_names == ("grey wolf", "red fox")
    assert {split: len(rows) for split, rows in dataset.splits.items()} == {"train": 4, "val": 2, "test": 4}
    assert "split" in dataset.notes
    for rows in dataset.splits.values():
        for record in rows:
            shard, _, member = record.id.partition("/")
            i, k = int(shard[-5]), int(member[5])
            assert read_image(record).getpixel((0, 0)) == (i, k, 0) and record.label == 1 - i
    write_shard(tmp_path / "train-0.tar", {"a.png": png((0, 0, 0)), "a.cls": "cat"})
    write_shard(tmp_path / "train-1.tar", {"a.png": png((0, 0, 0)), "a.cls": "dog"})
    assert len(load_dataset("wds:train-*.tar", root=tmp_path).split("train")) == 2


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "there are no shards s in"),
        ({"a.tar": {"1.png": b"x"}}, r"sample 1 of .*a\.tar has no label"),
        ({"a.tar": {"1.cls": "0"}}, r"sample 1 of .*a\.tar has 0 images"),
        ({"a.tar": {"1.cls": "0", "1.png": b"x", "1.jpg": b"x"}}, "has 2 images"),
        ({"a.tar": {"1.cls": "0", "1.png": b"x"}}, "labels are integers"),
        (
            {"a.tar": {"1.cls": "cat", "1.png": b"x"}, "test/b.tar": {"1.cls": "cat", "1.png": b"x"}},
            "does not say its split",
        ),
    ],
)
def test_bad_shards(files: dict[str, dict[str, bytes | str]], message: str, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    for name, members in files.items():
        write_shard(tmp_path / "s" / name, members)
    with pytest.raises(InputError, match=message):
        load_dataset("wds:s", root=tmp_path)


def test_a_damaged_shard_and_a_damaged_image(tmp_path: Path) -> None:
    (tmp_path / "train.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(InputError, match=r"cannot read shard .*train\.tar"):
        load_dataset("wds:train.tar", root=tmp_path)
    write_shard(tmp_path / "train.tar", {"1.png": b"no image", "1.cls": "cat"})
    record = load_dataset("wds:train.tar", root=tmp_path).split("train")[0]
    with pytest.raises(InputError, match=r"cannot read image 1\.png in .*train\.tar: it is no image in a known format"):
        read_image(record)
    (tmp_path / "train.tar").unlink()
    with pytest.raises(InputError, match=r"cannot read shard .*train\.tar: No such file"):
        read_image(record)

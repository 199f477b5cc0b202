"""wds: shards to records."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vlmprompt.data.images import read_image
from vlmprompt.data.load import load_dataset
from vlmprompt.data.parts import gaps
from vlmprompt.data.records import Dataset
from vlmprompt.data.shards import braces
from vlmprompt.data.shards.index import split_name
from vlmprompt.errors import InputError, UsageError

SAMPLE: dict[str, bytes | str] = {"1.cls": "cat", "1.png": b"x"}


def png(colour: tuple[int, int, int]) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (7, 5), colour).save(content, format="PNG")
    return content.getvalue()


Members = Mapping[str, Any] | Sequence[tuple[str, Any]]


def write_shard(path: Path, members: Members) -> None:
    """Pairs instead of a mapping may name a member twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items() if isinstance(members, Mapping) else members:
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


def colours(dataset: Dataset, split: str) -> list[tuple[tuple[int, ...], str]]:
    """What the images of a split show, and the names of their classes."""
    return [(read_image(r).getpixel((0, 0)), dataset.class_names[r.label]) for r in dataset.split(split)]  # type: ignore[misc]


def test_a_key_that_comes_again_begins_another_sample(tmp_path: Path) -> None:
    """As in webdataset: two shards, numbered alike, that were appended to each other."""
    write_shard(
        tmp_path / "train.tar",
        [("0.png", png((1, 0, 0))), ("0.cls", "fox"), ("1.png", png((2, 0, 0))), ("1.cls", "wolf")]
        + [("0.png", png((3, 0, 0))), ("0.cls", "wolf"), ("1.png", png((4, 0, 0))), ("1.cls", "fox")],
    )
    dataset = load_dataset("wds:train.tar", root=tmp_path)
    assert colours(dataset, "train") == [
        ((1, 0, 0), "fox"),
        ((2, 0, 0), "wolf"),
        ((3, 0, 0), "wolf"),
        ((4, 0, 0), "fox"),
    ]
    assert [record.id for record in dataset.split("train")] == [
        "train.tar/0.png",
        "train.tar/1.png",
        "train.tar/0.png#2",
        "train.tar/1.png#2",
    ]
    assert dataset.warnings == [f"2 key(s) come again in {tmp_path}/train.tar, and each of their samples is read: 0, 1"]


def test_parts_that_lie_apart(tmp_path: Path) -> None:
    """`tar cf train.tar *.png *.cls`: webdataset would see four half samples."""
    write_shard(
        tmp_path / "train.tar", {"0.png": png((1, 0, 0)), "1.png": png((2, 0, 0)), "0.cls": "fox", "1.cls": "wolf"}
    )
    assert colours(load_dataset("wds:train.tar", root=tmp_path), "train") == [((1, 0, 0), "fox"), ((2, 0, 0), "wolf")]


def test_what_belongs_to_no_sample(tmp_path: Path) -> None:
    """Sidecars and notes are skipped, other pictures of a sample are not its image."""
    write_shard(
        tmp_path / "train.tar",
        {".DS_Store": "x", "._0.png": b"sidecar", "a/._0.png": b"sidecar", "__notes__": "x", "__notes__/0.png": b"x"}
        | {"a/0.png": png((1, 0, 0)), "a/0.seg.png": png((9, 9, 9)), "a/0.CLS": "fox", "README": "x"}
        | {"__meta__.json": "{}", "classes.txt": "fox"},
    )
    dataset = load_dataset("wds:train.tar", root=tmp_path)
    assert colours(dataset, "train") == [((1, 0, 0), "fox")]
    assert dataset.warnings == [
        f"1 key(s) in {tmp_path}/train.tar have neither image nor label and are left out: classes"
    ]
    assert colours(load_dataset("wds:train.tar?image=seg.png", root=tmp_path), "train") == [((9, 9, 9), "fox")]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a/b.c.png", ("a/b", "c.png")),
        ("a.b/c.PNG", ("a.b/c", "png")),
        ("./0.jpg", ("./0", "jpg")),
        ("0.png", ("0", "png")),
        ("README", None),
        ("._0.png", None),
        ("__notes__/0.png", None),
        ("__notes__", None),
    ],
)
def test_keys_are_webdatasets(name: str, parts: tuple[str, str] | None) -> None:
    """What webdataset 1.0.2 makes of these names."""
    assert split_name(name) == parts


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{0..2}", "0 1 2"),
        ("{3..0}", "3 2 1 0"),
        ("{08..10}", "08 09 10"),
        ("{8..010}", "008 009 010"),
        ("{0..6..3}", "0 3 6"),
        ("{-1..1}", "-1 0 1"),
        ("{c..a}", "c b a"),
        ("{a,b}-{0..1}", "a-0 a-1 b-0 b-1"),
        ("{x{1,2},y}", "x1 x2 y"),
        ("{x}", "{x}"),
        ("{a,}b", "ab b"),
    ],
)
def test_brace_patterns_are_those_of_braceexpand(pattern: str, names: str) -> None:
    """Its output, version 0.1.7."""
    assert braces.expanded(pattern) == names.split()


@pytest.mark.parametrize("pattern", ["{0..999999999}", "{0..999}{0..999}{0..999}", "{a,b", "a}{b", "{" * 60 + "}" * 60])
def test_patterns_without_bounds_or_partners(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"stands for more than|has no partner|more than 50 braces") as caught:
        load_dataset(f"wds:train-{pattern}.tar", root=tmp_path)
    assert caught.value.hint


def test_braces_anywhere_in_the_path_in_their_order(tmp_path: Path) -> None:
    for number, name in enumerate(["test/1", "test/0", "train/1", "train/0"]):
        write_shard(tmp_path / f"food/{name}.tar", {"0.png": png((number, 0, 0)), "0.cls": "fox"})
    dataset = load_dataset("wds:food/{train,test}/{1..0}.tar", root=tmp_path)
    assert dataset.notes["shards"] == ["train/1.tar", "train/0.tar", "test/1.tar", "test/0.tar"]
    assert colours(dataset, "train") == [((2, 0, 0), "fox"), ((3, 0, 0), "fox")]
    (tmp_path / "food").rename(tmp_path / "{food}[1]")
    assert (
        load_dataset("wds:{food}[1]", root=tmp_path).digest
        == load_dataset("wds:{food}[1]/{test,train}/*.tar", root=tmp_path).digest
    )


def test_shards_that_are_not_there_are_named(tmp_path: Path) -> None:
    sample: Members = {"0.png": png((1, 0, 0)), "0.cls": "fox"}
    for number in (0, 4):
        write_shard(tmp_path / f"train-00000{number}.tar", sample)
    with pytest.raises(InputError) as caught:
        load_dataset("wds:train-{000000..000009}.tar", root=tmp_path)
    assert caught.value.message == (
        f"8 of 10 shards train-{{000000..000009}}.tar are missing in {tmp_path}: "
        "train-000001.tar, train-000002.tar, train-000003.tar and 5 more"
    )
    write_shard(tmp_path / "whole/train-00001-of-00003.tar", sample)
    with pytest.raises(
        InputError, match=r"2 file\(s\) are missing.*train-00000-of-00003\.tar, .*train-00002-of-00003\.tar"
    ):
        load_dataset("wds:whole", root=tmp_path)


def test_numbers_that_are_left_out_are_told(tmp_path: Path) -> None:
    for split, numbers in {
        "train": ("000000", "000001", "000004"),
        "test": ("2014", "2017"),
        "val": ("0", "12"),
    }.items():
        for number in numbers:
            write_shard(tmp_path / f"{split}-{number}.tar", {"0.png": png((1, 0, 0)), "0.cls": "fox"})
    told = ["2 files are not there, by the numbers of the others: train-000002.tar, train-000003.tar"]
    for spec in (f"wds:{tmp_path}", "wds:*.tar"):
        assert [w for w in load_dataset(spec, root=tmp_path).warnings if "numbers" in w] == told
    meant = load_dataset("wds:train-{000000,000004}.tar", root=tmp_path, split_seed=None)
    assert not [w for w in meant.warnings if "numbers" in w]
    assert gaps(["a-00.tar", f"a-{10**17}.tar", "b-01.tar", "b-03-of-03.tar"]) == []


def test_a_shard_that_says_two_splits(tmp_path: Path) -> None:
    """A class or a data set may be called train."""
    write_shard(tmp_path / "s/train_station-test-0.tar", SAMPLE)
    with pytest.raises(InputError, match=r"train_station-test-0\.tar says train and test by its name"):
        load_dataset("wds:s", root=tmp_path)
    (tmp_path / "s/test").mkdir()
    (tmp_path / "s/train_station-test-0.tar").rename(tmp_path / "s/test/train_station-0.tar")
    assert set(load_dataset("wds:s", root=tmp_path).splits) == {"test"}


@pytest.mark.parametrize(
    ("query", "members", "names"),
    [
        ("?label=txt", {"0.png": b"x", "0.txt": "a red fox\n"}, ("a red fox",)),
        ("?label=json.class", {"0.png": b"x", "0.json": '{"class": "fox"}'}, ("fox",)),
        ("?label=label.txt", {"0.png": b"x", "0.label.txt": "fox"}, ("fox",)),
        ("?image=jpg", {"0.png": b"x", "0.jpg": b"x", "0.cls": "fox"}, ("fox",)),
        ("", {"0.png": b"x", "0.cls": "007", "1.png": b"x", "1.cls": "008"}, ("007", "008")),
    ],
)
def test_where_the_label_is(query: str, members: Members, names: tuple[str, ...], tmp_path: Path) -> None:
    write_shard(tmp_path / "train-0.tar", members)
    assert load_dataset(f"wds:train-?.tar{query}", root=tmp_path).class_names == names


def test_a_label_of_minus_one_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "classnames.txt").write_text("fox\nwolf\n", encoding="utf-8")
    members = {"0.png": png((1, 0, 0)), "0.cls": "-1", "1.png": png((2, 0, 0)), "1.cls": "1"}
    write_shard(tmp_path / "test.tar", members)
    dataset = load_dataset("wds:test.tar", root=tmp_path)
    assert colours(dataset, "test") == [((2, 0, 0), "wolf")]
    assert f"1 row(s) with no label left out: sample 0 of {tmp_path}/test.tar" in dataset.warnings


@pytest.mark.parametrize(
    ("query", "members", "message"),
    [
        ("", [("0.png", b"x"), ("0.PNG", b"x"), ("0.cls", "fox")], r"has the file 0\.PNG twice \(also as 0\.png\)"),
        ("", [("0.png", b"x"), ("0.cls", "fox"), ("0.cls", "cat")], r"has the file 0\.cls twice"),
        ("", {"0.001.png": b"x", "0.002.png": b"x", "0.cls": "fox"}, r"has 0 images, it has 001\.png, 002\.png, cls"),
        (
            "",
            {"0.png": b"x", "0.json": "{}", "1.png": b"x", "1.cls": "fox"},
            r"sample 0 of .* has no label, it has json",
        ),
        ("", {"0.png": b"x", "0.cls": " "}, r"label 0\.cls in .* is empty"),
        ("", {"0.png": b"x", "0.cls": b"\xff\xfe"}, "is not UTF-8 text"),
        ("", {"0.png": b"x", "0.cls": "[0, 1]"}, r"is not one class: '\[0, 1\]'"),
        ("", {"0.png": b"x", "0.cls": "fox\nwolf"}, "is not one class"),
        ("", {"0.png": b"x", "0.cls": "-1"}, "no sample has a label, all are marked -1"),
        ("", {"README": "x"}, "the shards have no samples"),
        ("?label=json.class", {"0.png": b"x", "0.json": '{"clas": 1}'}, "has no field 'class'"),
        ("?label=json.class", {"0.png": b"x", "0.json": '{"class": [1]}'}, r"is no label: \[1\]"),
        ("?label=json.class", {"0.png": b"x", "0.json": "{"}, "is not JSON"),
        ("?lable=txt", SAMPLE, "no option 'lable'"),
        ("?label=", SAMPLE, "no value for label"),
        ("?label=json", SAMPLE, "names no field"),
    ],
)
def test_samples_that_are_none(query: str, members: Members, message: str, tmp_path: Path) -> None:
    write_shard(tmp_path / "train.tar", members)
    with pytest.raises((InputError, UsageError), match=message):
        load_dataset(f"wds:train.tar{query}", root=tmp_path)


def test_archives_that_do_not_end_where_they_seem_to(tmp_path: Path) -> None:
    """Python's reader, and so webdataset's, takes each for the end of the archive, without a word."""
    shard = tmp_path / "train.tar"
    write_shard(shard, {"0.png": png((1, 0, 0)), "0.cls": "fox", "1.png": png((2, 0, 0)), "1.cls": "wolf"})
    whole = shard.read_bytes()
    shard.write_bytes(whole + whole)
    with pytest.raises(InputError, match=r"goes on behind its end, at byte 4096"):
        load_dataset("wds:train.tar", root=tmp_path)
    shard.write_bytes(whole[:2048])
    with pytest.raises(InputError, match=r"has no end, it was cut off after 2048 bytes"):
        load_dataset("wds:train.tar", root=tmp_path)
    shard.write_bytes(whole[:2048] + b"damaged!" + whole[2056:])
    with pytest.raises(InputError, match=r"goes on behind its end, at byte 2048"):
        load_dataset("wds:train.tar", root=tmp_path)


def test_links_in_a_shard(tmp_path: Path) -> None:
    """Of a file that is packed under two names, tar keeps the second as a link."""
    write_shard(tmp_path / "train.tar", {"0.png": b"x", "0.cls": "fox"})
    with tarfile.open(tmp_path / "train.tar", "a") as tar:
        link = tarfile.TarInfo("1.png")
        link.type, link.linkname = tarfile.LNKTYPE, "0.png"
        tar.addfile(link)
    with pytest.raises(InputError, match=r"1\.png in shard .* is a link to 0\.png"):
        load_dataset("wds:train.tar", root=tmp_path)


@pytest.mark.parametrize("spec", ["wds:s", "wds:s/train.tar.gz", "wds:s/train.tar"])
def test_compressed_shards_are_named(spec: str, tmp_path: Path) -> None:
    write_shard(tmp_path / "s/train-0.tar", SAMPLE)
    name = spec.rpartition("/")[2] if "/" in spec else "train.tgz"
    with tarfile.open(tmp_path / "s" / name, "w:gz") as tar:
        tar.add(tmp_path / "s/train-0.tar", "x")
    with pytest.raises(InputError, match="compressed") as caught:
        load_dataset(spec, root=tmp_path)
    assert "uncompressed tar files are read" in (caught.value.hint or "")

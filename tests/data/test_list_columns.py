"""Lists as other programs write them: columns, delimiters, encodings, absolute paths, names of splits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from vlmprompt.data.load import load_dataset
from vlmprompt.data.records import Dataset
from vlmprompt.errors import InputError, UsageError

MakeTree = Callable[[Iterable[str]], Path]


@pytest.fixture
def photos(make_tree: MakeTree) -> Path:
    return make_tree(["a/1.png", "a/2.png", "b/1.png", "b/2.png"])


def read(photos: Path, text: str, options: str = "", *, encoding: str = "utf-8", **more: Any) -> Dataset:
    (photos / "list.csv").write_bytes(text.encode(encoding))
    return load_dataset(f"csv:{photos}/list.csv{options}", **more)


def labelled(dataset: Dataset) -> dict[str, list[tuple[str, str]]]:
    return {s: [(r.id, dataset.class_names[r.label]) for r in rows] for s, rows in dataset.splits.items()}


ROWS = [("a/1.png", "fox", "train"), ("b/1.png", "owl", "train"), ("a/2.png", "fox", "test")]
EXPECTED = {"train": [("a/1.png", "fox"), ("b/1.png", "owl")], "test": [("a/2.png", "fox")]}


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(photos: Path, sign: str) -> None:
    text = "".join(sign.join(row) + "\n" for row in [("path", "label", "split"), *ROWS])
    assert labelled(read(photos, text)) == EXPECTED
    given = {",": ",", ";": ";", "\t": "tab", "|": "%7C"}[sign]
    assert labelled(read(photos, text, f"?delimiter={given}")) == EXPECTED
    with pytest.raises(UsageError, match=r"delimiter 'ab' is not one sign"):
        read(photos, text, "?delimiter=ab")


def test_columns_of_other_names(photos: Path) -> None:
    text = "".join(";".join(row) + "\n" for row in [("Filename", "Class", "Set"), *ROWS])
    assert labelled(read(photos, text, "?path=filename&label=class&split=set")) == EXPECTED
    with pytest.raises(
        InputError, match=r"does not name the columns path and label, but class, filename, set"
    ) as error:
        read(photos, text)
    assert error.value.hint and error.value.hint.endswith("?path=filename&label=class")
    with pytest.raises(InputError, match=r"columns filename and class and part"):
        read(photos, text, "?path=filename&label=class&split=part")
    entries = [{"file": path, "kind": label, "part": split} for path, label, split in ROWS]
    (photos / "list.json").write_text(json.dumps(entries))
    assert labelled(load_dataset(f"json:{photos}/list.json?path=file&label=kind&split=part")) == EXPECTED


def test_a_split_column_of_another_name_is_not_passed_over(photos: Path) -> None:
    """Drawing a split would have mixed what the list keeps apart."""
    text = "".join(",".join(row) + "\n" for row in [("path", "label", "set"), *ROWS])
    with pytest.raises(InputError, match=r"column 'set' of .* names splits") as error:
        read(photos, text)
    assert error.value.hint and "?split=set" in error.value.hint
    entries = [{"path": path, "label": label, "set": split} for path, label, split in ROWS]
    (photos / "list.json").write_text(json.dumps(entries))
    with pytest.raises(InputError, match=r"column 'set' of .* names splits"):
        load_dataset(f"json:{photos}/list.json")


def test_splits_of_other_names(photos: Path) -> None:
    words = {"train": "A", "test": "B"}
    text = "path,label,split\n" + "".join(f"{p},{label},{words[s]}\n" for p, label, s in ROWS) + "b/2.png,owl,C\n"
    with pytest.raises(InputError, match=r"line 2 has the unknown split 'A'"):
        read(photos, text)
    dataset = read(photos, text, "?train=A&test=b")
    assert labelled(dataset) == EXPECTED
    assert dataset.warnings[0] == "1 images of split 'C' are left out"
    assert len(read(photos, text, "?train=A,C&test=B").split("train")) == 3
    with pytest.raises(InputError, match=r"no image is in any of the splits named; there are 'A', 'B', 'C'"):
        read(photos, text, "?train=X")
    seg = text.replace(",A", ",seg_train").replace(",B", ",Test Images").replace(",C", ",train2017")
    assert {split: len(rows) for split, rows in read(photos, seg).splits.items()} == {"train": 3, "test": 1}


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "mac_roman"])
def test_encodings(photos: Path, encoding: str) -> None:
    text = "path,label,split\na/1.png,café,train\n"
    assert read(photos, text, f"?encoding={encoding}", encoding=encoding).class_names == ("café",)
    if encoding == "utf-16":  # it says so itself
        assert read(photos, text, encoding=encoding).class_names == ("café",)
        return
    with pytest.raises(InputError, match=r"is not UTF-8 text") as error:
        read(photos, text, encoding=encoding)
    assert error.value.hint and "?encoding=" in error.value.hint
    with pytest.raises(UsageError, match=r"no encoding 'latin-99'"):
        read(photos, text, "?encoding=latin-99", encoding=encoding)


def test_absolute_paths(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    text = f"path,label,split\n{photos}/a/1.png,fox,train\n"
    near = read(photos, text)
    assert [(r.id, r.image) for r in near.split("train")] == [("a/1.png", photos / "a/1.png")]
    assert near.digest == read(photos, "path,label,split\na/1.png,fox,train\n").digest
    (tmp_path / "lists/far.csv").write_text(text)
    spec = f"csv:{tmp_path}/lists/far.csv"
    with pytest.raises(InputError, match=r"line 2: path .* is absolute") as error:
        load_dataset(spec)
    assert error.value.hint and "--root" in error.value.hint and "--allow-outside" in error.value.hint
    with pytest.raises(InputError, match=r"is absolute"):
        load_dataset(spec, root=tmp_path / "lists")
    assert load_dataset(spec, root=photos).split("train")[0].id == "../photos/a/1.png"
    outside = load_dataset(spec, allow_outside=True).split("train")[0]
    assert (outside.id, outside.image) == (f"{photos}/a/1.png", photos / "a/1.png")

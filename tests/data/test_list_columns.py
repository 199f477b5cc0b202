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


@pytest.mark.parametrize(
    ("column", "values", "options", "splits"),
    [
        ("is_valid", ("False", "True"), "?split=is_valid&val=true&train=false", {"train": 2, "val": 2}),
        ("Test?", ("no", "YES"), "?split=test%3F&test=yes&train=no", {"train": 2, "test": 2}),
        ("train_flag", ("1", "0"), "?split=train_flag&train=1&test=0", {"train": 2, "test": 2}),
    ],
)
def test_a_column_of_truth_values_that_names_a_split_is_asked_about(
    photos: Path, column: str, values: tuple[str, str], options: str, splits: dict[str, int]
) -> None:
    text = f"path,label,{column}\n" + "".join(
        f"{letter}/{i}.png,{letter},{values[i - 1]}\n" for letter in "ab" for i in (1, 2)
    )
    with pytest.raises(InputError, match=r"names splits, but nothing says that it is the split") as error:
        read(photos, text)
    assert error.value.hint and options in error.value.hint
    assert {split: len(rows) for split, rows in read(photos, text, options).splits.items()} == splits


def test_other_columns_of_truth_values_say_no_split(photos: Path) -> None:
    text = "path,label,split,valid_exif,flipped\na/1.png,fox,train,True,False\nb/1.png,owl,train,False,True\n"
    assert len(read(photos, text).split("train")) == 2


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (("0.0", "1.0"), r"labels such as '0.0' \(.*line 2\) are numbers that are no index"),
        (("1", "2.5e0"), r"are numbers that are no index"),
        (("-5", "3"), r"are numbers that are no index"),
        (("True", "false"), r"labels such as 'True' \(.*line 2\) are true or false, no names"),
        (("fox", "[0, 1]"), r"line 3: label '\[0, 1\]' is not one class"),
        (("{'id': 3}", "fox"), r"line 2: label .* is not one class"),
    ],
)
def test_labels_that_were_something_else_before_they_became_text(
    photos: Path, labels: tuple[str, str], problem: str
) -> None:
    rows = "".join(f'{path},"{label}",train\n' for path, label in zip(("a/1.png", "b/1.png"), labels, strict=True))
    with pytest.raises(InputError, match=problem):
        read(photos, f"path,label,split\n{rows}")


def test_rows_marked_as_unlabelled_are_left_out_and_named(photos: Path) -> None:
    text = "path,label,split\na/1.png,fox,train\na/2.png,-1,train\nb/1.png,owl,train\nb/2.png,-100,train\n"
    found = read(photos, text)
    assert labelled(found) == {"train": [("a/1.png", "fox"), ("b/1.png", "owl")]}
    assert f"2 row(s) with no label left out: {photos}/list.csv, line 3, {photos}/list.csv, line 5" in found.warnings
    with pytest.raises(InputError, match=r"no image has a label: .*line 2 has -1"):
        read(photos, "path,label,split\na/1.png,-1,train\n")

"""csv: and json: lists to records."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from vlmprompt.data.lists import CsvReader, JsonReader
from vlmprompt.data.load import load_dataset
from vlmprompt.data.records import Dataset
from vlmprompt.errors import InputError

MakeTree = Callable[[Iterable[str]], Path]
FILES = ["a/1.png", "a/2.png", "b/1.png", "b/2.png"]


@pytest.fixture
def photos(make_tree: MakeTree) -> Path:
    return make_tree(FILES)


def read_csv(folder: Path, text: str, names: str | None = None) -> Dataset:
    (folder / "list.csv").write_text(text, encoding="utf-8")
    return _read(CsvReader(), folder / "list.csv", names)


def read_json(folder: Path, content: object, names: str | None = None) -> Dataset:
    (folder / "list.json").write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return _read(JsonReader(), folder / "list.json", names)


def _read(reader: CsvReader | JsonReader, file: Path, names: str | None) -> Dataset:
    names_file = None
    if names is not None:
        names_file = file.parent / "names.txt"
        names_file.write_text(names, encoding="utf-8")
    return reader.load(str(file), root=None, class_names_file=names_file, split_seed=1)


def content(dataset: Dataset) -> dict[str, list[tuple[str, int]]]:
    return {split: [(r.id, r.label) for r in rows] for split, rows in dataset.splits.items()}


def test_names_as_labels_in_csv_and_json(photos: Path) -> None:
    rows = [
        ("b/1.png", "zebra", "train"),
        ("a/1.png", "red_fox, adult", "Training"),
        ("./a/2.png", "red_fox, adult", "test"),
        ("b\\2.png", "zebra", "valid"),
    ]
    text = "\ufeffPath, label ,width,split\n" + "".join(f'{p},"{label}",9,{s}\n' for p, label, s in rows) + "\n"
    expected = {"train": [("b/1.png", 1), ("a/1.png", 0)], "val": [("b/2.png", 1)], "test": [("a/2.png", 0)]}
    table = read_csv(photos, text)
    assert content(table) == expected
    assert table.class_names == ("red_fox, adult", "zebra")
    assert table.split("val")[0].image == photos / "b/2.png"
    entries = [{"path": p, "label": label, "split": s} for p, label, s in rows]
    listed = read_json(photos, entries)
    assert (listed.name, listed.spec) == ("list", f"json:{photos}/list.json")
    assert content(listed) == expected and listed.digest == table.digest
    assert listed.notes["warnings"] == [
        "no val images of 1 of 2 classes: 'red_fox, adult'",
        "no test images of 1 of 2 classes: 'zebra'",
    ]


def test_integer_labels_index_the_class_names(photos: Path) -> None:
    text = "path,label,split\na/1.png,2,train\nb/1.png,0,train\n"
    dataset = read_csv(photos, text, "ant\nbee\ncat\n")
    assert dataset.class_names == ("ant", "bee", "cat")
    assert content(dataset)["train"] == [("a/1.png", 2), ("b/1.png", 0)]
    assert dataset.notes["warnings"] == ["no train images of 1 of 3 classes: 'bee'"]
    entries = [{"path": "a/1.png", "label": 2, "split": "train"}, {"path": "b/1.png", "label": 0, "split": "train"}]
    assert read_json(photos, entries, "ant\nbee\ncat\n").digest == dataset.digest
    named = read_csv(photos, "path,label,split\na/1.png,cat,train\nb/1.png,ant,train\n", "ant\nbee\ncat\n")
    assert named.digest == dataset.digest


def test_without_a_split_column_the_seed_splits(make_tree: MakeTree) -> None:
    names = [f"{c}/{i}.png" for c in "ab" for i in range(4)]
    photos = make_tree(names)
    rows = [f"{name},{name[0]}\n" for name in names]
    dataset = read_csv(photos, "path,label\n" + "".join(rows))
    assert {split: len(rows) for split, rows in dataset.splits.items()} == {"train": 4, "val": 2, "test": 2}
    assert dataset.notes["split"]["seed"] == 1  # type: ignore[index]
    assert read_csv(photos, "path,label\n" + "".join(reversed(rows))).digest == dataset.digest


def test_a_list_may_lie_beside_its_images(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    dataset = read_csv(tmp_path / "lists", "path,label,split\n../photos/a/1.png,a,test\n")
    assert content(dataset) == {"test": [("../photos/a/1.png", 0)]}


BAD_CSV = {
    "no header": ("a/1.png,a\n", None, "first line of .* does not name the columns", "path,label"),
    "empty": ("", None, "first line of .* does not name the columns", "path,label"),
    "no rows": ("path,label\n", None, "has no images", "one image a row"),
    "short row": ("path,label,split\na/1.png,a\n", None, "line 2 has not as many fields", "quote"),
    "unquoted comma": ("path,label\na/1.png,a, b\n", None, "line 2 has not as many fields", "quote"),
    "open quote": ('path,label\n"a/1.png,a\n', None, "line 2: ", "quotes"),
    "no path": ("path,label\n ,a\n", None, "line 2 has no path", ""),
    "no label": ("path,label\na/1.png,\n", None, "line 2 has no label", "--class-names"),
    "unknown split": ("path,label,split\na/1.png,a,trian\n", None, "unknown split 'trian'", "train, val, test"),
    "some splits": ("path,label,split\na/1.png,a,train\nb/1.png,b,\n", None, "line 3 has no split", "for none"),
    "integers only": ("path,label\na/1.png,0\n", None, "labels are integers", "--class-names"),
    "integer too large": ("path,label,split\na/1.png,2,train\n", "x\ny\n", "no class 2, .* has 2 names", "from 0"),
    "unknown label": ("path,label,split\na/1.png,zebar,train\n", "zebra\nox\n", "'zebar' is not among", "'zebra'"),
    "same to the model": ("path,label\na/1.png,a b\nb/1.png,a_B\n", None, "'a b' and label 'a_B' both name", "one way"),
    "no image": ("path,label\na/1.txt,a\n", None, "line 2: a/1.txt is not an image", ".png"),
    "twice": (
        "path,label\na/1.png,a\n./a/1.png,a\n",
        None,
        "line 3 has the same image as .*line 2",
        "once",
    ),
    "twice under two labels": (
        "path,label,split\na/1.png,a,train\n./a/1.png,b,train\n",
        None,
        "line 3 has the same image as .*line 2",
        "once",
    ),
    "absolute": ("path,label\n/x/1.png,a\n", None, "path /x/1.png is absolute", "relative to the list"),
    "absolute on Windows": ("path,label\nC:\\x\\1.png,a\n", None, r"path C:\\x\\1.png is absolute", "relative"),
    "missing": (
        "path,label,split\n" + "".join(f"a/{i}.png,a,train\n" for i in range(1, 7)),
        None,
        "4 of 6 listed images are missing: a/3.png, a/4.png, a/5.png and 1 more",
        "list's folder",
    ),
    "not trained": ("path,label,split\na/1.png,a,train\nb/1.png,b,test\n", None, "'b' is in test but has no train", ""),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_bad_csv_names_the_line_and_the_next_step(photos: Path, case: str) -> None:
    text, names, message, hint = BAD_CSV[case]
    with pytest.raises(InputError, match=message) as error:
        read_csv(photos, text, names)
    assert re.search(hint, error.value.hint or "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[{", "line 1: not JSON"),
        ({"train": []}, "is not a list"),
        ([["a/1.png", "a"]], "entry 1 is not an object with path and label"),
        ([{"path": "a/1.png"}], "entry 1 is not an object with path and label"),
        ([{"path": "a/1.png", "label": True}], "entry 1 has no label"),
        ([{"path": "a/1.png", "label": None}], "entry 1 has no label"),
        ([{"path": 3, "label": "a"}], "entry 1 has no path"),
        ([], "has no images"),
    ],
)
def test_bad_json(photos: Path, content: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_json(photos, content)


def test_a_list_that_is_no_text(photos: Path) -> None:
    (photos / "list.csv").write_bytes(b"\xff\x00")
    with pytest.raises(InputError, match="not UTF-8 text"):
        _read(CsvReader(), photos / "list.csv", None)
    with pytest.raises(InputError, match="cannot read list"):
        _read(CsvReader(), photos, None)


def test_labels_with_leading_zeros_are_names(tmp_path: Path) -> None:
    """As indices they would most likely be meant to count from 1."""
    (tmp_path / "list.csv").write_text("path,label,split\na.png,001,train\nb.png,002,train\n", encoding="utf-8")
    for name in "ab":
        (tmp_path / f"{name}.png").touch()
    dataset = load_dataset("csv:list.csv", root=tmp_path)
    assert dataset.class_names == ("001", "002")
    names = tmp_path / "names.txt"
    names.write_text("fox\nwolf\nbear\n", encoding="utf-8")
    with pytest.raises(InputError, match="label '001' is not among the class names"):
        load_dataset("csv:list.csv", root=tmp_path, class_names_file=names)

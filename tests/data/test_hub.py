"""hf: tables of Hugging Face's `datasets` to records."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vlmprompt.data.copies import find_copies
from vlmprompt.data.images import read_image
from vlmprompt.data.load import load_dataset, load_measured
from vlmprompt.errors import InputError, UsageError

datasets = pytest.importorskip("datasets")


def encoded(colour: tuple[int, int, int]) -> dict[str, Any]:
    content = io.BytesIO()
    Image.new("RGB", (6, 4), colour).save(content, format="PNG")
    return {"bytes": content.getvalue(), "path": None}


def table(labels: list[Any], feature: Any, shade: int = 0, **more: list[Any]) -> Any:
    rows = {"image": [encoded((shade, i, 0)) for i in range(len(labels))], "label": labels} | more
    features = {"image": datasets.Image(), "label": feature} | {key: datasets.Value("int64") for key in more}
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    names = datasets.ClassLabel(names=["red fox", "grey wolf"])
    parts = {
        "train": table([1, 0, 1], names, 10, other=[0, 0, 1]),
        "validation": table([0, 1], names, 20, other=[0, 1]),
        "test": table([1, -1], names, 30, other=[1, 1]),
        "unsupervised": table([-1], names, 40, other=[0]),
    }
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "animals"))
    return tmp_path


def test_a_saved_data_set(animals: Path) -> None:
    dataset = load_dataset("hf:animals", root=animals)
    assert (dataset.name, dataset.class_names) == ("animals", ("red fox", "grey wolf"))
    assert {split: [(r.id, r.label) for r in rows] for split, rows in dataset.splits.items()} == {
        "train": [("train/0000000", 1), ("train/0000001", 0), ("train/0000002", 1)],
        "val": [("val/0000000", 0), ("val/0000001", 1)],
        "test": [("test/0000000", 1)],
    }
    assert [read_image(r).getpixel((0, 0)) for r in dataset.split("val")] == [(20, 0, 0), (20, 1, 0)]
    again = pickle.loads(pickle.dumps(dataset.split("train")[2]))
    assert read_image(again).getpixel((0, 0)) == (10, 2, 0)
    assert dataset.warnings == [
        "split 'unsupervised' is left out; ?test=unsupervised would test on it",
        "no test images of 1 of 2 classes: 'red fox'",
    ]


def test_splits_and_columns_by_name(animals: Path, tmp_path: Path) -> None:
    dataset = load_dataset("hf:animals?test=validation", root=animals)
    assert [record.id for record in dataset.split("test")] == ["test/0000000", "test/0000001"]
    assert read_image(dataset.split("test")[1]).getpixel((0, 0)) == (20, 1, 0)
    names = tmp_path / "names.txt"
    names.write_text("day\nnight\n")
    other = load_dataset("hf:animals?label=other", root=animals, class_names_file=names)
    assert other.class_names == ("day", "night")
    assert [record.label for record in other.split("train")] == [0, 0, 1]


def test_one_table_of_text_labels_is_split_by_seed(tmp_path: Path) -> None:
    table(["b", "a"] * 5, datasets.Value("string")).save_to_disk(str(tmp_path / "letters"))
    dataset = load_dataset("hf:letters", root=tmp_path)
    assert dataset.class_names == ("a", "b")
    assert {split: len(rows) for split, rows in dataset.splits.items()} == {"train": 4, "val": 2, "test": 4}
    for record in dataset.split("test"):
        row = int(record.id.partition("/")[2])
        assert record.label == (row + 1) % 2 and read_image(record).getpixel((0, 0)) == (0, row, 0)


def test_a_folder_of_images_as_the_library_reads_it(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("fox", "wolf"):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            Image.new("RGB", (6, 4), (50, 60, 70)).save(tmp_path / "photos" / split / name / "1.png")
    dataset = load_dataset("hf:photos", root=tmp_path)
    assert dataset.class_names == ("fox", "wolf")
    assert read_image(dataset.split("test")[0]).getpixel((0, 0)) == (50, 60, 70)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("hf:", UsageError, "names nothing"),
        ("hf:animals?lable=other", UsageError, "no option 'lable'"),
        ("hf:animals?label=others", InputError, "no column 'others'"),
        ("hf:animals?test=tests", InputError, "no split 'tests' for test"),
        ("hf:animals?label=other", InputError, "labels are integers"),
        ("hf:nowhere/to-be-found", InputError, "cannot load Hugging Face data set 'nowhere/to-be-found'"),
    ],
)
def test_errors(spec: str, error: type[Exception], message: str, animals: Path) -> None:
    with pytest.raises(error, match=message):
        load_dataset(spec, root=animals)


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    rows = {"image": [{"bytes": b"no image", "path": None}], "label": ["a"]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    datasets.DatasetDict({"test": datasets.Dataset.from_dict(rows, features=features)}).save_to_disk(
        str(tmp_path / "d")
    )
    record = load_dataset("hf:d", root=tmp_path).split("test")[0]
    with pytest.raises(InputError, match="cannot read image test row 0: it is no image in a known format"):
        read_image(record)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match="needs the package datasets") as caught:
        load_dataset("hf:some/thing")
    assert caught.value.hint == "pip install 'vlmprompt[hf]'"


def test_rows_of_one_image_in_two_splits_are_found(tmp_path: Path) -> None:
    names = datasets.ClassLabel(names=["fox", "wolf"])
    parts = {"train": table([0, 1, 1], names, 10), "test": table([0, 1], names, 10)}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "animals"))
    found = find_copies(load_dataset("hf:animals", root=tmp_path).splits)
    assert [copies.public()["images"] for copies in found] == [
        ["train/0000000", "test/0000000"],
        ["train/0000001", "test/0000001"],
    ]


def test_measured_tables_give_their_test_split_or_every_row(tmp_path: Path) -> None:
    names = datasets.ClassLabel(names=["fox", "wolf"])
    parts = {"train": table([0, 1, 1], names, 10), "test": table([0, 1], names, 20)}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "both"))
    parts["train"].save_to_disk(str(tmp_path / "one"))
    for name, count in (("both", 2), ("one", 3)):
        splits = load_measured(f"hf:{name}", root=tmp_path).splits
        assert {split: len(records) for split, records in splits.items()} == {"test": count}

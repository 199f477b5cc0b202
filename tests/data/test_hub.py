"""hf: tables of Hugging Face's `datasets` to records."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vlmprompt.data.check import check
from vlmprompt.data.copies import find_copies
from vlmprompt.data.images import read_image
from vlmprompt.data.load import load_dataset, load_measured
from vlmprompt.data.records import Dataset
from vlmprompt.errors import InputError, UsageError
from vlmprompt.progress import SilentProgress

datasets = pytest.importorskip("datasets")
MakeTree = Callable[[Iterable[str]], Path]


def encoded(colour: tuple[int, int, int]) -> dict[str, Any]:
    content = io.BytesIO()
    Image.new("RGB", (6, 4), colour).save(content, format="PNG")
    return {"bytes": content.getvalue(), "path": None}


def table(labels: list[Any], feature: Any, shade: int = 0, **more: list[Any]) -> Any:
    rows = {"image": [encoded((shade, i, 0)) for i in range(len(labels))], "label": labels} | more
    features = {"image": datasets.Image(), "label": feature} | {key: datasets.Value("int64") for key in more}
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's word for it was read when the package was imported."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


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
        "1 row(s) with no label left out: test row 1",
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


# -- folders of images ------------------------------------------------------------------------------
CLASSES = ("train_station", "bullet train", "test_tube", "dev_board")


def test_words_of_splits_in_the_names_of_classes(make_tree: MakeTree, tmp_path: Path) -> None:
    """The library would put test images of such classes into train, and list some twice."""
    make_tree([f"{split}/{name}/{i}.png" for split in ("train", "test") for name in CLASSES for i in range(2)])
    dataset = load_dataset("hf:photos", root=tmp_path)
    assert dataset.spec == "hf:photos"
    assert dataset.class_names == ("bullet train", "dev board", "test tube", "train station")
    for split in ("train", "test"):
        ids = [record.id for record in dataset.split(split)]
        assert ids == [f"{split}/{name}/{i}.png" for name in sorted(CLASSES) for i in range(2)]
    assert dataset.digest == load_dataset("folder:photos", root=tmp_path).digest


def test_words_of_splits_in_a_tree_without_splits(make_tree: MakeTree, tmp_path: Path) -> None:
    """The library would read the first two classes alone."""
    make_tree([f"{name}/{i}.png" for name in ("bullet train", "train station", "bus", "car") for i in range(4)])
    dataset = load_dataset("hf:photos", root=tmp_path)
    assert dataset.class_names == ("bullet train", "bus", "car", "train station")
    assert {split: len(rows) for split, rows in dataset.splits.items()} == {"train": 8, "val": 4, "test": 4}


def write_metadata(folder: Path, names: Iterable[str]) -> None:
    """Every other image is a wolf."""
    lines = [f"{name},{('fox', 'wolf')[i % 2]}" for i, name in enumerate(names)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,label", *lines]), encoding="utf-8")


@pytest.mark.parametrize("above", [False, True])
def test_images_with_a_list_of_columns(above: bool, make_tree: MakeTree, tmp_path: Path) -> None:
    """The list lies in each split folder, or above them, where the library would put all of its rows into each."""
    names = [f"train_station/{i}.png" for i in range(2)]
    photos = make_tree([f"{split}/{name}" for split in ("train", "test") for name in names])
    if above:
        write_metadata(photos, [f"{split}/{name}" for split in ("train", "test") for name in names])
    else:
        write_metadata(photos / "train", names)
        write_metadata(photos / "test", names)
    dataset = load_dataset("hf:photos", root=tmp_path)
    assert dataset.class_names == ("fox", "wolf")
    assert {split: [r.label for r in rows] for split, rows in dataset.splits.items()} == {
        "train": [0, 1],
        "test": [0, 1],
    }
    for split, records in dataset.splits.items():
        for record, name in zip(records, names, strict=True):
            with Image.open(photos / split / name) as image:
                assert read_image(record).getpixel((0, 0)) == image.getpixel((0, 0))


@pytest.mark.parametrize(
    ("listed", "message"), [((0, 1), "not listed in the metadata: 2"), ((0, 1, 2, 3), "not there: 3")]
)
def test_a_list_that_does_not_fit(listed: tuple[int, ...], message: str, make_tree: MakeTree, tmp_path: Path) -> None:
    photos = make_tree([f"{i}.png" for i in range(3)])
    write_metadata(photos, [f"{i}.png" for i in listed])
    with pytest.raises(InputError, match=message):
        load_dataset("hf:photos", root=tmp_path)


@pytest.mark.parametrize(
    ("paths", "data_files", "message"),
    [
        (["train/bus", "test/train_station"], "", r"test/train_station/0\.png is taken for train and for test"),
        (["bus", "bullet train"], "", r"bullet train/0\.png is taken for train because of the name of its class"),
        (["train/bus", "train/test_tube"], "  data_files: train/**\n", ""),
        (
            ["train/bus", "test/car"],
            "  data_files:\n  - split: train\n    path: [train/**, metadata.csv]\n"
            "  - split: test\n    path: [test/**, metadata.csv]\n",
            r"metadata\.csv is taken for train and for test",
        ),
        (["bus", "bullet train"], "  data_files: '**'\n", ""),
    ],
)
def test_a_division_by_the_library(
    paths: list[str], data_files: str, message: str, make_tree: MakeTree, tmp_path: Path
) -> None:
    """A card hands the files over to the library's own rules, as the hub does, or says which they are."""
    photos = make_tree([f"{path}/{i}.png" for path in paths for i in range(4)])
    card = f"---\nconfigs:\n- config_name: default\n{data_files or '  data_dir: .' + chr(10)}---\n"
    if "metadata" in message:
        write_metadata(photos, [f"{path}/{i}.png" for path in paths for i in range(4)])
    (photos / "README.md").write_text(card, encoding="utf-8")
    if message:
        with pytest.raises(InputError, match=message) as caught:
            load_dataset("hf:photos", root=tmp_path)
        assert "--data folder:DIR" in (caught.value.hint or "")
    else:
        assert sum(map(len, load_dataset("hf:photos", root=tmp_path).splits.values())) == 8


# -- names of classes -------------------------------------------------------------------------------
def classes(*names: str) -> Any:
    return datasets.ClassLabel(names=list(names))


def named(dataset: Dataset) -> dict[str, list[tuple[int, str]]]:
    """By split: the shade of green of each image, which is its row in the table, and the name of its class."""
    return {
        split: [(read_image(r).getpixel((0, 0))[1], dataset.class_names[r.label]) for r in rows]  # type: ignore[index]
        for split, rows in dataset.splits.items()
    }


@pytest.mark.parametrize("test_names", [("wolf", "fox", "bear"), ("wolf", "fox")])
def test_splits_with_classes_in_another_order(test_names: tuple[str, ...], tmp_path: Path) -> None:
    parts = {
        "train": table([0, 1, 2], classes("bear", "fox", "wolf")),
        "test": table([0, 1], classes(*test_names)),
    }
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "animals"))
    dataset = load_dataset("hf:animals", root=tmp_path)
    assert dataset.class_names == ("bear", "fox", "wolf")
    assert named(dataset) == {"train": [(0, "bear"), (1, "fox"), (2, "wolf")], "test": [(0, "wolf"), (1, "fox")]}


def test_files_with_classes_in_another_order(tmp_path: Path) -> None:
    """The library would read all of them by the names of the first."""
    (tmp_path / "animals").mkdir()
    for name, spelt in {
        "train-00000-of-00002": classes("fox", "wolf"),
        "train-00001-of-00002": classes("wolf", "fox"),
        "test-00000-of-00001": classes("wolf", "fox"),
    }.items():
        table([0, 1], spelt).to_parquet(str(tmp_path / f"animals/{name}.parquet"))
    right = {"train": [(0, "fox"), (1, "wolf"), (0, "wolf"), (1, "fox")], "test": [(0, "wolf"), (1, "fox")]}
    dataset = load_dataset("hf:animals", root=tmp_path)
    assert named(dataset) == right
    assert [record.id for record in dataset.split("train")] == [f"train/{i:07}" for i in range(4)]
    card = tmp_path / "animals/README.md"
    files = "".join(f"  - split: {split}\n    path: {split}-*\n" for split in ("train", "test"))
    card.write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n", encoding="utf-8")
    assert named(load_dataset("hf:animals", root=tmp_path)) == right
    described = "".join(f"          '{i}': {name}\n" for i, name in enumerate(("fox", "wolf")))
    card.write_text(
        "---\ndataset_info:\n  features:\n  - name: image\n    dtype: image\n  - name: label\n    dtype:\n"
        f"      class_label:\n        names:\n{described}---\n",
        encoding="utf-8",
    )
    with pytest.raises(InputError, match=r"parquet names its classes otherwise than README\.md"):
        load_dataset("hf:animals", root=tmp_path)


def test_files_without_rows(tmp_path: Path) -> None:
    table([0, 1], classes("fox", "wolf")).to_parquet(str(tmp_path / "test-00000-of-00002.parquet"))
    empty = table([0], classes("fox", "wolf")).select([])
    empty.to_parquet(str(tmp_path / "test-00001-of-00002.parquet"))
    empty.to_parquet(str(tmp_path / "train.parquet"))
    assert named(load_dataset(f"hf:{tmp_path}")) == {"test": [(0, "fox"), (1, "wolf")]}
    with pytest.raises(InputError, match=r"there are no rows in .*train\.parquet"):
        load_dataset("hf:train.parquet", root=tmp_path)


def test_tables_saved_one_by_one(tmp_path: Path) -> None:
    table([0, 1], classes("fox", "wolf")).save_to_disk(str(tmp_path / "animals/train"))
    table([0, 1], classes("wolf", "fox")).save_to_disk(str(tmp_path / "animals/validation"))
    dataset = load_dataset("hf:animals?test=validation", root=tmp_path)
    assert named(dataset) == {"train": [(0, "fox"), (1, "wolf")], "test": [(0, "wolf"), (1, "fox")]}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train-00000-of-00003", "train-00002-of-00003"], r"1 file\(s\) are missing.*train-00001-of-00003\.parquet"),
        (["train", "extra"], r"extra\.parquet in .* does not say its split"),
        (["train_station-test"], r"says train and test by its name"),
        (["a/train", "b/train"], r"train files of .* lie in several folders: a, b"),
    ],
)
def test_files_that_do_not_say_their_split(names: list[str], message: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / f"animals/{name}").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"animals/{name}.parquet").touch()
    with pytest.raises(InputError, match=message):
        load_dataset("hf:animals", root=tmp_path)


def test_names_that_are_the_same_to_a_text_encoder(tmp_path: Path) -> None:
    parts = {"train": table([0, 1], classes("fox", "wolf")), "test": table([0, 1], classes("Fox", "wolf"))}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "animals"))
    with pytest.raises(InputError, match="label 'fox' and label 'Fox' both name the class"):
        load_dataset("hf:animals", root=tmp_path)


# -- rows and columns -------------------------------------------------------------------------------
def test_rows_without_an_image(tmp_path: Path) -> None:
    features = datasets.Features({"image": datasets.Image(), "label": classes("fox", "wolf")})
    images = [encoded((0, 0, 0)), None, encoded((0, 2, 0)), None]
    rows = datasets.Dataset.from_dict({"image": images, "label": [0, 1, 1, 0]}, features=features)
    datasets.DatasetDict({"train": rows, "test": rows.select([2, 1])}).save_to_disk(str(tmp_path / "animals"))
    with pytest.raises(InputError, match="class 'wolf' is in test but"):
        datasets.DatasetDict({"train": rows.select([0]), "test": rows}).save_to_disk(str(tmp_path / "others"))
        load_dataset("hf:others", root=tmp_path)
    dataset = load_dataset("hf:animals", root=tmp_path)
    assert named(dataset) == {"train": [(0, "fox"), (2, "wolf")], "test": [(2, "wolf")]}
    assert dataset.warnings[0] == "3 row(s) with no image left out: train row 1, train row 3, test row 1"


@pytest.mark.parametrize(
    ("labels", "feature"),
    [
        (["fox", None, "wolf", " "], datasets.Value("string")),
        ([0, -1, 1, None], datasets.ClassLabel(names=["fox", "wolf"])),
        ([0, -100, 1, None], datasets.Value("int32")),
    ],
)
def test_labels_that_are_none(labels: list[Any], feature: Any, tmp_path: Path) -> None:
    datasets.DatasetDict({"train": table(labels, feature)}).save_to_disk(str(tmp_path / "animals"))
    names = tmp_path / "names.txt"
    names.write_text("fox\nwolf\n", encoding="utf-8")
    with pytest.raises(InputError, match="class 'fox' has 1 images"):  # both are left, and too few to split
        load_dataset("hf:animals", root=tmp_path, class_names_file=names)
    dataset = load_dataset("hf:animals?test=train", root=tmp_path, class_names_file=names)
    assert named(dataset) == {"test": [(0, "fox"), (2, "wolf")]}
    assert "2 row(s) with no label left out: test row 1, test row 3" in dataset.warnings


def test_check_tells_what_is_left_out(tmp_path: Path) -> None:
    parts = {"train": table([0, -1], classes("fox")), "test": table([0], classes("fox"))}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "animals"))
    report = check("hf:animals", tmp_path, SilentProgress())
    assert report.found == {"train": 1, "test": 1}
    assert "1 row(s) with no label left out: train row 1" in report.notes


@pytest.mark.parametrize(
    ("label", "feature", "message"),
    [
        ([0, 1], datasets.List(datasets.Value("int64")), "cannot be the label: a row of it holds a list"),
        (0.5, datasets.Value("float32"), "holds a fraction"),
        (True, datasets.Value("bool"), "holds true or false"),
        (None, datasets.Value("null"), "holds nothing"),
        ({"a": 1}, {"a": datasets.Value("int64")}, "holds fields"),
        (-7, datasets.Value("int64"), "test row 0 has label -7, classes count from 0"),
        (None, datasets.Value("string"), "no row has a label in column 'label'"),
        ("", datasets.Value("string"), "no row has a label in column 'label'"),
    ],
)
def test_labels_that_cannot_be(label: Any, feature: Any, message: str, tmp_path: Path) -> None:
    datasets.DatasetDict({"test": table([label], feature)}).save_to_disk(str(tmp_path / "animals"))
    with pytest.raises(InputError, match=message) as caught:
        load_dataset("hf:animals", root=tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("feature", "cell", "query", "message"),
    [
        (datasets.List(datasets.Image()), [encoded((1, 2, 3))], "", r"no column holds one image a row: x \(a list\)"),
        (datasets.List(datasets.Image()), [encoded((1, 2, 3))], "?image=x", "cannot be the image: .* a list"),
        ({"a": datasets.Image()}, {"a": encoded((1, 2, 3))}, "?image=x", "cannot be the image: .* fields"),
        (datasets.Value("string"), "1.png", "?image=x", "cannot be the image: .* text"),
        (datasets.Value("binary"), b"", "", r"not evident among x \(bytes\)"),
    ],
)
def test_columns_that_hold_no_image(feature: Any, cell: Any, query: str, message: str, tmp_path: Path) -> None:
    features = datasets.Features({"x": feature, "label": classes("fox")})
    rows = datasets.Dataset.from_dict({"x": [cell], "label": [0]}, features=features)
    datasets.DatasetDict({"test": rows}).save_to_disk(str(tmp_path / "animals"))
    with pytest.raises(InputError, match=message) as caught:
        load_dataset(f"hf:animals{query}", root=tmp_path)
    assert caught.value.hint


def test_images_that_other_tools_have_written(tmp_path: Path) -> None:
    """Bytes and a path, and no word that they are an image; classes as text."""
    features = {"image": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}}
    rows = {"image": [encoded((0, i, 0)) for i in range(2)], "label": ["wolf", "fox"]}
    features["label"] = datasets.Value("string")
    written = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    datasets.DatasetDict({"train": table([0, 1], classes("fox", "wolf")), "test": written}).save_to_disk(
        str(tmp_path / "animals")
    )
    right = {"train": [(0, "fox"), (1, "wolf")], "test": [(0, "wolf"), (1, "fox")]}
    assert named(load_dataset("hf:animals", root=tmp_path)) == right


def test_a_column_of_bytes_and_a_saved_format(tmp_path: Path) -> None:
    """A format that is saved with a table hides columns and gives arrays."""
    features = datasets.Features({"x": datasets.Value("binary"), "label": classes("fox", "wolf")})
    cells = [encoded((0, i, 0))["bytes"] for i in range(2)]
    rows = datasets.Dataset.from_dict({"x": cells, "label": [1, 0]}, features=features)
    datasets.DatasetDict({"test": rows.with_format("numpy", columns=["label"])}).save_to_disk(str(tmp_path / "animals"))
    dataset = load_dataset("hf:animals?image=x", root=tmp_path)
    assert named(dataset) == {"test": [(0, "wolf"), (1, "fox")]}
    assert all(type(record.label) is int for record in dataset.split("test"))


# -- what cannot be had -----------------------------------------------------------------------------
def test_errors_keep_their_cause(tmp_path: Path) -> None:
    table([0], classes("fox")).to_parquet(str(tmp_path / "test.parquet"))
    whole = (tmp_path / "test.parquet").read_bytes()
    (tmp_path / "test.parquet").write_bytes(whole[:40] + bytes(100) + whole[140:])
    with pytest.raises(InputError) as caught:
        load_dataset("hf:test.parquet", root=tmp_path)
    assert "error occurred while generating the dataset" in caught.value.message
    assert caught.value.message.count(";") >= 1 and "\n" not in caught.value.message


def test_the_hub_without_a_network(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError) as caught:
        load_dataset("hf:nowhere/to-be-found")
    assert caught.value.message == (
        "cannot load Hugging Face data set 'nowhere/to-be-found': HF_HUB_OFFLINE is set; it is not in the cache"
    )
    assert "--data hf:FOLDER" in (caught.value.hint or "") and capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["./animals", "a/b/c", "~/nowhere"])
def test_a_folder_that_is_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        load_dataset(f"hf:{name}", root=tmp_path)


@pytest.mark.parametrize(("name", "hint"), [("train.tar", "read as shards: --data wds:"), ("train.zip", "unpack them")])
def test_archives_are_not_tables(name: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=f"holds {name[-3:]} files") as caught:
        load_dataset(f"hf:{tmp_path}")
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("hf:", UsageError, "names nothing"),
        ("hf:animals?lable=other", UsageError, "no option 'lable'"),
        ("hf:animals?label=others", InputError, "no column 'others'"),
        ("hf:animals?test=tests", InputError, "no split 'tests' for test"),
        ("hf:animals?train=test&test=test", UsageError, "split 'test' cannot be two of"),
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

"""What a split is called, in names, folders and lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import pytest

from vlmprompt.data.counts import split_origin
from vlmprompt.data.load import load_dataset, load_measured, load_outliers
from vlmprompt.data.records import Dataset
from vlmprompt.data.split_names import looks_like_splits, said_split, split_named
from vlmprompt.errors import InputError, UsageError

MakeTree = Callable[[Iterable[str]], Path]

NAMES = {
    "train": "train Training TRAIN seg_train training_set train2017 TrainImages trainset trainval images.train",
    "val": "val valid validation dev val2017 dev_set ValData validation-split",
    "test": "test testing eval evaluation seg_test test_set TestImages testset test-2019 imgs_test test-images",
    "": "train_station test_tube dev_board bullet-train contest my_train train_val fold1 tests attest évaluation",
}


@pytest.mark.parametrize("split", NAMES)
def test_names(split: str) -> None:
    assert {name: split_named(name) or "" for name in NAMES[split].split()} == dict.fromkeys(
        NAMES[split].split(), split
    )
    assert split_named("Train Images") == "train" and split_named("bullet train") is None


def test_names_to_ask_about() -> None:
    assert looks_like_splits(["my_train", "my_test"]) and looks_like_splits(["trainA", "testA", "trainB"])
    assert not looks_like_splits(["bullet train", "train station", "test_tube", "dev_board"])
    assert not looks_like_splits(["my_train", "my_test", "cat"])
    assert looks_like_splits(["train", "test", "holdout"]) and not looks_like_splits(["train", "bus", "test tube"])


def test_folders_of_images_called_like_splits_are_no_classes(make_tree: MakeTree) -> None:
    folder = make_tree(tree("train", "test", "unlabelled", n=4))
    with pytest.raises(InputError, match=r"the folders test, train, unlabelled of .* look like splits"):
        load_dataset(f"folder:{folder}")
    assert load_dataset(f"folder:{folder}?depth=1").class_names == ("test", "train", "unlabelled")


def tree(*folders: str, n: int = 2) -> list[str]:
    return [f"{folder}/{i}.png" for folder in folders for i in range(n)]


def found(dataset: Dataset) -> tuple[tuple[str, ...], dict[str, int]]:
    return dataset.class_names, {split: len(records) for split, records in dataset.splits.items()}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("seg_train", "seg_test"),
        ("training_set", "test_set"),
        ("train2017", "val2017"),
        ("Train Images", "Test Images"),
        ("train", "evaluation"),
        ("train", "dev"),
    ],
)
def test_folders_of_any_such_name_are_splits(make_tree: MakeTree, train: str, test: str) -> None:
    photos = make_tree(tree(f"{train}/cat", f"{train}/dog", n=3) + tree(f"{test}/cat", f"{test}/dog"))
    second = "val" if "val2017" in test or test == "dev" else "test"
    dataset = load_dataset(f"folder:{photos}")
    assert found(dataset) == (("cat", "dog"), {"train": 6, second: 4})
    assert dataset.notes["folders"] == {"train": train, second: test}
    assert split_origin(dataset) == f"its own: train in {train}, {second} in {test}"


def test_folders_that_may_be_splits_are_asked_about(make_tree: MakeTree) -> None:
    photos = make_tree(tree("part_a/cat", "part_a/dog", n=4) + tree("part_b/cat", "part_b/dog"))
    with pytest.raises(
        InputError, match=r"the folders part_a, part_b of .* have the same folders in them, cat, dog"
    ) as e:
        load_dataset(f"folder:{photos}")
    assert e.value.hint == f"say which they are: folder:{photos}?train=NAME&test=NAME; ?depth=1 takes them for classes"
    said = load_dataset(f"folder:{photos}?train=part_a&test=part_b")
    assert found(said) == (("cat", "dog"), {"train": 8, "test": 4}) and said.warnings == []
    assert load_dataset(f"folder:{photos}?depth=1").class_names == ("part a", "part b")


def test_names_that_look_like_splits_are_asked_about(make_tree: MakeTree) -> None:
    photos = make_tree(tree("my_train/cat", n=4) + tree("my_test/cat", n=4))
    with pytest.raises(InputError, match=r"the folders my_test, my_train of .* look like splits"):
        load_dataset(f"folder:{photos}")
    assert found(load_dataset(f"folder:{photos}?train=my_train&test=my_test")) == (("cat",), {"train": 4, "test": 4})


@pytest.mark.parametrize("classes", [["cat", "dog"], ["images"]])
def test_splits_within_classes_are_asked_about(make_tree: MakeTree, classes: list[str]) -> None:
    photos = make_tree(tree(*(f"{name}/{split}" for name in classes for split in ("train", "val2017")), n=4))
    with pytest.raises(
        InputError, match=f"the folders {', '.join(classes)} of .* hold splits: train, val2017"
    ) as error:
        load_dataset(f"folder:{photos}")
    assert error.value.hint and error.value.hint.startswith("name the folder with the splits in it")
    assert load_dataset(f"folder:{photos}?depth=1").class_names == tuple(classes)


def test_classes_with_a_splits_word_in_their_names(make_tree: MakeTree) -> None:
    photos = make_tree(tree("bullet train", "train station", "test_tube", "dev_board", n=4))
    assert load_dataset(f"folder:{photos}").class_names == ("bullet train", "dev board", "test tube", "train station")


def test_what_the_options_of_a_folder_may_say(make_tree: MakeTree) -> None:
    photos = make_tree([*tree("a/cat", "b/cat", "val/cat", "rest/cat"), "train?x=1/cat/0.png", "train?x=1/cat/1.png"])
    dataset = load_dataset(f"folder:{photos}?train=a&test=b")
    assert found(dataset)[1] == {"train": 2, "val": 2, "test": 2}  # "val" is evident
    assert dataset.warnings[0].startswith(
        f"folders of {photos} that are left out, as they are named for no split: rest,"
    )
    assert load_dataset(f"folder:{photos / 'train?x=1'}?depth=1", split_seed=None).class_names == ("cat",)
    assert load_dataset(f"folder:{photos}?train=train%3Fx%3D1&test=b").split("train")[0].id == "train?x=1/cat/0.png"
    for options, message in {
        "tran=a": "no option 'tran'",
        "train=a&train=b": "'train' .* is given twice",
        "train=": "'train' .* has no value",
        "depth=0": "depth '0' is no number",
    }.items():
        with pytest.raises(UsageError, match=message):
            load_dataset(f"folder:{photos}?{options}")
    with pytest.raises(InputError, match=r"there is no folder /a in "):
        load_dataset(f"folder:{photos}?train=/a")
    with pytest.raises(InputError, match=r"there is no folder aa in .*") as error:
        load_dataset(f"folder:{photos}?train=aa")
    assert error.value.hint and "'a'" in error.value.hint


def test_splits_that_lie_in_folders_of_their_own_names(make_tree: MakeTree) -> None:
    photos = make_tree(tree(*(f"{split}/{split}/{name}" for split in ("seg_train", "seg_test") for name in ("a", "b"))))
    dataset = load_dataset(f"folder:{photos}?train=seg_train/seg_train&test=seg_test/seg_test")
    assert found(dataset) == (("a", "b"), {"train": 4, "test": 4}) and dataset.warnings == []
    assert dataset.split("test")[0].id == "seg_test/seg_test/a/0.png"


def test_nested_class_folders(make_tree: MakeTree) -> None:
    nested = tree("train/animals/cat", "train/animals/dog", "train/plants/fern", n=2)
    photos = make_tree([*nested, *tree("test/animals/cat", "test/plants/fern", n=1)])
    merged = load_dataset(f"folder:{photos}")
    assert merged.class_names == ("animals", "plants")
    assert merged.warnings == [
        "a class folder holds folders that are not told apart: animals (cat, dog); ?depth=2 after the path reads each "
        "of them as a class"
    ]
    deep = load_dataset(f"folder:{photos}?depth=2")
    assert deep.class_names == ("cat", "dog", "fern")
    assert [(r.id, r.label) for r in deep.split("test")] == [
        ("test/animals/cat/0.png", 0),
        ("test/plants/fern/0.png", 2),
    ]
    assert deep.warnings == ["no test images of 1 of 3 classes: 'dog'"]
    make_tree(["train/loose/a.png"])
    with pytest.raises(InputError, match=r"image .*train/loose/a\.png is in no class folder"):
        load_dataset(f"folder:{photos}?depth=2")
    with pytest.raises(InputError, match=r"has no class folders 3 levels below"):
        load_dataset(f"folder:{make_tree(['x/y/'])}/x?depth=3")


def test_folders_of_programs_are_no_classes(make_tree: MakeTree) -> None:
    extra = [
        "__pycache__/a.pyc",
        ".cache/b.png",
        "@eaDir/c.png",
        "__MACOSX/d.png",
        "lost+found/",
        "cat/__pycache__/e.x",
    ]
    photos = make_tree([*tree("cat", "dog", n=4), *extra])
    assert load_dataset(f"folder:{photos}").class_names == ("cat", "dog")


# -- data that are only measured ----------------------------------------------------------------------------
def test_measured_data_need_no_split(make_tree: MakeTree) -> None:
    photos = make_tree([*tree("cat", n=1), *tree("dog", n=2), *tree("eel", n=37)])
    with pytest.raises(InputError, match="has 1 images, a split needs 4"):
        load_dataset(f"folder:{photos}")
    dataset = load_measured(f"folder:{photos}")
    assert found(dataset) == (("cat", "dog", "eel"), {"test": 40})
    (photos / "list.csv").write_text("path,label\ncat/0.png,cat\ndog/0.png,dog\n")
    assert found(load_measured(f"csv:{photos}/list.csv")) == (("cat", "dog"), {"test": 2})
    assert found(load_outliers(f"csv:{photos}/list.csv"))[1] == {"test": 2}


def test_measured_data_with_splits_give_their_test_split_or_everything(make_tree: MakeTree) -> None:
    photos = make_tree(tree("train/cat", "test/cat", "test/dog", "val/cat", n=3))
    assert found(load_measured(f"folder:{photos}")) == (("cat", "dog"), {"test": 6})
    assert found(load_measured(f"folder:{make_tree(tree('all/train/cat', n=3))}/all"))[1] == {"test": 3}
    assert set(load_measured("doodles").splits) == {"test"} and len(load_measured("doodles").split("test")) == 64 * 32


class Plain:
    """A reader of another package, which knows nothing of measured data and splits by a seed itself."""

    def load(self, argument: str, *, root: Path | None, class_names_file: Path | None, split_seed: int) -> Dataset:
        from vlmprompt.data.records import Record
        from vlmprompt.data.splits import seeded_split

        records = [Record(f"{i}", 0, Path(f"{i}.png")) for i in range(10)]
        splits, note = seeded_split(records, ("cat",), split_seed + 0)
        return Dataset("plain", "plain:", ("cat",), splits, notes={"split": note})


def test_readers_of_other_packages_are_measured_whole_as_well() -> None:
    from vlmprompt.plugins import host
    from vlmprompt.registry import Source

    source = Source("made-up", "made-up", "1.0")
    host().datasets.register("plain", target="tests.data.test_split_names:Plain", source=source)
    try:
        assert found(load_measured("plain:x"))[1] == {"test": 10}
    finally:
        host().datasets.withdraw(source)


@pytest.mark.parametrize(
    ("file", "split"),
    [
        ("train/0.tar", "train"),
        ("seg_test/0.tar", "test"),
        ("train-000000.tar", "train"),
        ("imagenet-val-0001.tar", "val"),
        ("dev-00.tar", "val"),
        ("dev_board-0.tar", ""),
        ("birds-0.tar", ""),
    ],
)
def test_files_of_many_images_say_their_split(file: str, split: str) -> None:
    assert said_split(PurePosixPath(file)) == split

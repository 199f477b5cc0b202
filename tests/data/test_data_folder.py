"""folder: class folders to records."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from vlmprompt.data.folder import FolderReader
from vlmprompt.data.load import load_dataset
from vlmprompt.data.names import clean
from vlmprompt.data.records import Dataset, records_digest
from vlmprompt.errors import InputError, UsageError

MakeTree = Callable[[Iterable[str]], Path]


def read(path: Path | str, *, root: Path | None = None, names: Path | None = None, seed: int = 1) -> Dataset:
    return FolderReader().load(str(path), root=root, class_names_file=names, split_seed=seed)


def ids(dataset: Dataset, split: str) -> list[str]:
    return [record.id for record in dataset.split(split)]


def test_split_folders_with_aliases_nesting_and_files_to_ignore(make_tree: MakeTree) -> None:
    photos = make_tree(
        [
            "Training/red_fox/b.png",
            "Training/red_fox/a.JPG",
            "Training/red_fox/more/c.png",
            "Training/red_fox/.DS_Store",
            "Training/red_fox/Thumbs.db",
            "Training/ant/z.png",
            "Training/notes.txt",
            "valid/ant/v.png",
            "valid/red_fox/v.png",
            "testing/ant/t.png",
            "testing/red_fox/t.png",
            "README.md",
            "labels.json",
            ".git/x.png",
            "annotations/red_fox.xml",
        ]
    )
    dataset = read(photos)
    assert dataset.class_names == ("ant", "red fox")
    assert dataset.name == "photos" and dataset.spec == f"folder:{photos}"
    assert [(r.id, r.label) for r in dataset.split("train")] == [
        ("Training/ant/z.png", 0),
        ("Training/red_fox/a.JPG", 1),
        ("Training/red_fox/b.png", 1),
        ("Training/red_fox/more/c.png", 1),
    ]
    assert ids(dataset, "val") == ["valid/ant/v.png", "valid/red_fox/v.png"]
    assert ids(dataset, "test") == ["testing/ant/t.png", "testing/red_fox/t.png"]
    assert all(r.image == photos / r.id for rows in dataset.splits.values() for r in rows)
    assert dataset.notes["warnings"] == [] and "split" not in dataset.notes


def test_train_can_be_the_name_of_a_class(make_tree: MakeTree) -> None:
    files = [f"{name}/{i}.png" for name in ("train", "bus") for i in range(4)]
    assert read(make_tree(files)).class_names == ("bus", "train")


def test_one_folder_is_split_50_20_30_per_class(make_tree: MakeTree) -> None:
    sizes = {"a": 10, "b": 7, "c": 4}
    dataset = read(make_tree([f"{name}/{i}.png" for name, n in sizes.items() for i in range(n)]))
    # Worked out by hand: 7 -> round(3.5) = 4, round(1.4) = 1, rest 2; 4 -> 2, round(0.8) = 1, rest 1.
    for split, counts in {"train": [5, 4, 2], "val": [2, 1, 1], "test": [3, 2, 1]}.items():
        labels = [record.label for record in dataset.split(split)]
        assert [labels.count(label) for label in range(3)] == counts
        assert ids(dataset, split) == sorted(ids(dataset, split))
    assert len({i for split in dataset.splits for i in ids(dataset, split)}) == 21


def test_seeded_split_is_recorded_and_depends_on_seed_and_ids_alone(make_tree: MakeTree, tmp_path: Path) -> None:
    files = [f"{name}/{i}.png" for name in "ab" for i in range(12)]
    first = read(make_tree(files))
    note = first.notes["split"]
    assert isinstance(note, dict) and note["seed"] == 1
    assert note["digests"] == {split: records_digest(rows) for split, rows in first.splits.items()}
    # By `printf "1/a/0.png" | sha256sum` of all 12, sorted, the 7th and 8th: must never change, users' splits would.
    assert ids(first, "val") == ["a/1.png", "a/3.png", "b/5.png", "b/7.png"]
    assert ids(read(tmp_path / "photos", seed=2), "train") != ids(first, "train")
    more = read(make_tree(f"aa/{i}.png" for i in range(8)))
    assert [i for i in ids(more, "train") if not i.startswith("aa/")] == ids(first, "train")


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("cat", "cat"),
        ("001.Black_footed_Albatross", "Black footed Albatross"),
        ("red__fox_", "red fox"),
        ("t-shirt", "t-shirt"),
        ("2012 Audi TTS", "2012 Audi TTS"),
        ("747", "747"),
        ("3.", "3."),
        ("___", "___"),
    ],
)
def test_clean(folder: str, name: str) -> None:
    assert clean(folder) == name


BAD = {
    "nothing": (["README.txt"], "photos has no class folders", "<class>/<image>"),
    "empty class": (["cat/a.png", "dog/"], "class folder .*dog has no images", "remove the folder"),
    "empty class of a split": (["train/cat/a.png", "test/cat/"], "class folder .*test/cat has no images", "add images"),
    "foreign file": (
        ["cat/a.png", "cat/b.pdf", "cat/c.mp4"],
        r"cat/b\.pdf is not an image \(nor are 1 more",
        "convert",
    ),
    "image beside classes": (["cat/a.png", "b.png"], r"image .*b\.png is in no class folder", "<class>"),
    "image in a split": (["train/cat/a.png", "train/b.png"], r"image .*train/b\.png is in no class", "<class>"),
    "stray folder": (
        ["train/cat/a.png", "extra/cat/a.png"],
        "extra has images but is no split, beside train",
        "rename",
    ),
    "unlabelled test": (["train/cat/a.png", "test/a.png"], "test has images but no class folders", "expected"),
    "flat splits": (["train/a.png", "test/a.png"], "has images but no class folders", "expected"),
    "two names of a split": (["val/cat/a.png", "valid/cat/a.png"], "val and .*valid are both val", "merge"),
    "duplicate names": (
        ["red_fox/a.png", "red fox/a.png"],
        "'red fox' and folder 'red_fox' both name",
        "--class-names",
    ),
    "duplicate but for case": (["Crane/a.png", "crane/a.png"], "'Crane' and folder 'crane' both name", "rename"),
    "too few to split": (["a/1.png", "a/2.png", "a/3.png"], "class 'a' has 3 images, a split needs 4", "test/"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_trees_are_named_with_a_next_step(make_tree: MakeTree, case: str) -> None:
    files, message, hint = BAD[case]
    with pytest.raises(InputError, match=message) as error:
        read(make_tree(files))
    assert error.value.hint and re.search(hint, error.value.hint)


def test_class_of_test_that_training_lacks(make_tree: MakeTree) -> None:
    photos = make_tree(["train/cat/a.png", "test/cat/a.png", "test/eel/a.png"])
    with pytest.raises(InputError, match="class 'eel' is in test but has no train images"):
        read(photos)


def test_class_missing_from_test_is_a_warning(make_tree: MakeTree) -> None:
    photos = make_tree(["train/cat/a.png", "train/eel/a.png", "test/cat/a.png"])
    assert read(photos).notes["warnings"] == ["no test images of 1 of 2 classes: 'eel'"]


def test_names_that_are_codes_and_a_single_class_are_warnings(make_tree: MakeTree) -> None:
    warnings = read(make_tree(f"n01440764/{i}.png" for i in range(4))).notes["warnings"]
    assert isinstance(warnings, list)
    assert any("--class-names" in w for w in warnings) and any("only one class" in w for w in warnings)


def test_class_names_file(make_tree: MakeTree, tmp_path: Path) -> None:
    photos = make_tree([f"{name}/{i}.png" for name in ("n1", "n2") for i in range(4)])
    names = tmp_path / "names.txt"
    names.write_bytes("\ufefftench\r\ngreat white shark\r\n\n".encode())
    dataset = read(photos, names=names)
    assert dataset.class_names == ("tench", "great white shark")
    assert dataset.notes["class_names"]["file"] == str(names)  # type: ignore[index]
    for content, message in {
        "tench\n": "has 1 class names, the data set has 2 class folders",
        "tench\n\nshark\n": "line 2 has no class name",
        "": "line 1 has no class name",
        "crane\nCrane\n": "line 1 of .* and line 2 of .* both name the class 'Crane'",
    }.items():
        names.write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            read(photos, names=names)
    names.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        read(photos, names=names)


def test_where_a_path_is_looked_for(make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_tree(["train/cat/a.png"])
    assert len(read("photos", root=tmp_path).split("train")) == 1
    (tmp_path / "here/photos/train/dog").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match="dog has no images"):
        read("photos", root=tmp_path)  # the working directory comes first
    with pytest.raises(InputError, match=f"there is no pots nor {tmp_path}/pots") as error:
        read("pots", root=tmp_path)
    assert "--root" in (error.value.hint or "")
    with pytest.raises(UsageError, match="names no path"):
        read("")
    (tmp_path / "list.csv").touch()
    with pytest.raises(InputError, match=r"list\.csv is a file"):
        read(tmp_path / "list.csv")


def test_linked_class_folders_are_followed(make_tree: MakeTree, tmp_path: Path) -> None:
    photos = make_tree(["train/cat/a.png"])
    (tmp_path / "elsewhere").mkdir()
    (photos / "train/cat/a.png").rename(tmp_path / "elsewhere/b.png")
    (photos / "train/cat/more").symlink_to(tmp_path / "elsewhere")
    (photos / "train/dog").symlink_to(tmp_path / "elsewhere")
    assert ids(read(photos), "train") == ["train/cat/more/b.png", "train/dog/b.png"]


def test_a_file_name_that_is_not_utf8(make_tree: MakeTree) -> None:
    photos = make_tree(["train/cat/a.png"])
    try:
        (photos / "train/cat/caf\udce9.png").touch()
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system refuses names that are not UTF-8")
    with pytest.raises(InputError, match=r"not UTF-8, at .*caf\\udce9"):
        read(photos)


def test_numbered_folders_meet_a_names_file_in_the_order_of_their_numbers(make_tree: MakeTree, tmp_path: Path) -> None:
    folder = make_tree([f"{split}/{number}/a{split}.png" for split in ("train", "test") for number in (1, 2, 10)])
    (tmp_path / "names.txt").write_text("one\ntwo\nten\n")
    named = load_dataset(f"folder:{folder}", class_names_file=tmp_path / "names.txt")
    assert [(r.id, named.class_names[r.label]) for r in named.split("test")] == [
        ("test/1/atest.png", "one"),
        ("test/2/atest.png", "two"),
        ("test/10/atest.png", "ten"),
    ]
    assert any("line 2 of" in told and "is folder 2, not 10" in told for told in named.warnings)
    assert load_dataset(f"folder:{folder}").class_names == ("1", "10", "2")

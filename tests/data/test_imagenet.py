"""ImageNet and its variants: class folders, and the names of their classes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.data.benchmark_trees import PIXELS
from vlmprompt.data.coop.facts import benchmark
from vlmprompt.data.coop.synsets import imagenet_names, synsets
from vlmprompt.data.fewshot import sample
from vlmprompt.data.load import load_dataset
from vlmprompt.data.records import Dataset
from vlmprompt.errors import InputError

FOLDERS = {
    "imagenet": ("imagenet/images/train", "imagenet/images/val"),
    "imagenet-v2": ("imagenetv2/imagenetv2-matched-frequency-format-val",),
    "imagenet-sketch": ("imagenet-sketch/images",),
    "imagenet-a": ("imagenet-adversarial/imagenet-a",),
    "imagenet-r": ("imagenet-rendition/imagenet-r",),
}
VARIANTS = [name for name in FOLDERS if name != "imagenet"]


def class_folders(name: str) -> list[str]:
    facts = benchmark(name).class_folders
    assert facts is not None
    wnids = synsets(facts.synsets)
    return [str(i) for i in range(len(wnids))] if facts.named_by == "index" else list(wnids)


def make(root: Path, name: str, images: tuple[str, ...] = ("n1.JPEG",)) -> Path:
    """One of them with the same few images in every class folder."""
    for folder in FOLDERS[name]:
        for class_folder in class_folders(name):
            (root / folder / class_folder).mkdir(parents=True)
            for image in images:
                (root / folder / class_folder / image).write_bytes(PIXELS)
    return root / FOLDERS[name][-1]


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All five, whole. Tests that damage one make their own."""
    root = tmp_path_factory.mktemp("trees")
    for name in FOLDERS:
        make(root, name, ("n10.JPEG", "n2.JPEG", "n1.JPEG") if name == "imagenet" else ("1.jpg",))
    return root


def names(dataset: Dataset, split: str = "test") -> dict[str, str]:
    """Class folder -> class name."""
    return {record.id.split("/")[-2]: dataset.class_names[record.label] for record in dataset.split(split)}


def test_ids_and_names_are_those_of_timm_and_open_clip() -> None:
    import open_clip
    from timm.data import ImageNetInfo

    assert imagenet_names() == tuple(open_clip.IMAGENET_CLASSNAMES)
    assert list(synsets("imagenet")) == list(ImageNetInfo("imagenet-1k").label_names())
    assert [len(synsets(which)) for which in ("imagenet", "imagenet_a", "imagenet_r")] == [1000, 200, 200]  # type: ignore[arg-type]
    assert len(set(imagenet_names())) == 998  # "missile" and "sunglasses" twice each


def test_neither_package_is_imported_for_them() -> None:
    import subprocess

    code = "import sys; from vlmprompt.data.coop.synsets import *; imagenet_names(), synsets('imagenet_a')"
    code += "; print([m for m in ('timm', 'open_clip', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_imagenet(trees: Path) -> None:
    dataset = load_dataset("coop:imagenet", root=trees)
    assert sorted(dataset.splits) == ["test", "train"]
    assert [record.id for record in dataset.split("train")[:4]] == [
        "train/n01440764/n1.JPEG",
        "train/n01440764/n10.JPEG",
        "train/n01440764/n2.JPEG",
        "train/n01443537/n1.JPEG",
    ]
    assert names(dataset)["n01440764"] == "tench" and names(dataset, "train")["n15075141"] == "toilet paper"
    assert dataset.template == "a photo of a {}."
    assert dataset.warnings == [
        "coop:imagenet has 3000 train, 3000 test images, published are 1281167 train, 50000 test",
    ]
    drawn = sample(dataset, 2, 1)
    assert [record.label for record in drawn.train] == [label for label in range(1000) for _ in range(2)]


def test_folders_of_v2_are_places_among_the_ids(trees: Path) -> None:
    """Sorted as text, "10" would come before "2" and mean another class."""
    dataset = load_dataset("imagenet-v2", root=trees)
    assert [record.label for record in dataset.split("test")] == list(range(1000))
    assert names(dataset)["2"] == "great white shark" and names(dataset)["10"] == "brambling"
    assert names(dataset)["999"] == "toilet paper"


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_have_the_names_of_imagenet(name: str, trees: Path) -> None:
    dataset = load_dataset(f"coop:{name}", root=trees)
    assert list(dataset.splits) == ["test"] and len(dataset.class_names) == benchmark(name).classes
    if name == "imagenet-v2":
        return
    imagenet = dict(zip(synsets("imagenet"), imagenet_names(), strict=True))
    assert names(dataset) == {wnid: imagenet[wnid] for wnid in class_folders(name)}


def test_the_subsets_know_their_places_in_imagenet(trees: Path) -> None:
    dataset = load_dataset("imagenet-a", root=trees)
    places = dataset.notes["classes"]["imagenet_labels"]  # type: ignore[index]
    assert places[:3] == [6, 11, 13] and len(places) == 200
    assert tuple(imagenet_names()[i] for i in places) == dataset.class_names


@pytest.mark.parametrize("name", list(FOLDERS))
def test_damage(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"there is no folder {FOLDERS[name][0].split('/')[0]} for coop:{name}"):
        load_dataset(f"coop:{name}", root=tmp_path)
    folder = make(tmp_path, name)
    (folder / "README.txt").write_text("beside the class folders")
    load_dataset(f"coop:{name}", root=tmp_path)
    first, second = (folder / class_folder for class_folder in class_folders(name)[:2])
    (first / "notes.txt").write_text("stray")
    with pytest.raises(InputError, match=r"notes\.txt is not an image"):
        load_dataset(f"coop:{name}", root=tmp_path)
    (first / "notes.txt").unlink()
    (folder / "loose.jpg").write_bytes(PIXELS)
    with pytest.raises(InputError, match="1 images lie directly in"):
        load_dataset(f"coop:{name}", root=tmp_path)
    (folder / "loose.jpg").unlink()
    second.rename(folder / "n99999999")
    message = f"1 of .*00 class folders are missing: {second.name}, and no class of .* is called n99999999"
    with pytest.raises(InputError, match=message):
        load_dataset(f"coop:{name}", root=tmp_path)
    (folder / "n99999999").rename(second)
    folder.rename(folder.with_name("other"))
    with pytest.raises(InputError, match="has no folder"):
        load_dataset(f"coop:{name}", root=tmp_path)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("imagenet", "imagenet/images", "x"),
        ("imagenet-a", "imagenet-adversarial/imagenet-a", "imagenet-a"),
        ("imagenet-sketch", "imagenet-sketch/images", "imagenet-sketch/sketch"),
        ("imagenet-v2", "imagenetv2/imagenetv2-matched-frequency-format-val", "ImageNetV2"),
    ],
)
def test_other_known_layouts(name: str, old: str, new: str, tmp_path: Path) -> None:
    make(tmp_path, name)
    (tmp_path / old).rename(tmp_path / new)
    if new == "x":
        (tmp_path / "imagenet").rmdir()
        (tmp_path / "x").rename(tmp_path / "imagenet")
    assert len(load_dataset(f"coop:{name}", root=tmp_path).split("test")) == benchmark(name).classes

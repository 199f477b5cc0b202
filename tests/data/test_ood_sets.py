"""Sets of other things: any folder, lists, and published collections in their published layouts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from vlmprompt.data.load import load_outliers
from vlmprompt.data.names import shared_names
from vlmprompt.data.ood_sets import Benchmark, OodSet, benchmark, benchmarks, sets_of
from vlmprompt.data.records import Dataset, Record
from vlmprompt.errors import InputError, UsageError


def touch(folder: Path, *names: str) -> Path:
    """Empty files: reading a set opens no image."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


# -- folders and lists --------------------------------------------------------------------------------------
def test_a_folder_gives_every_image_at_any_depth(tmp_path: Path) -> None:
    touch(tmp_path / "other", "b.png", "dots/a.jpg", "train/striped_cloth/deep/c.png", "dots/.hidden.png")
    dataset = load_outliers("folder:other", root=tmp_path)
    assert dataset.name == "other" and list(dataset.splits) == ["test"]
    records = dataset.split("test")
    assert [r.id for r in records] == ["b.png", "dots/a.jpg", "train/striped_cloth/deep/c.png"]
    assert [dataset.class_names[r.label] for r in records] == ["other", "dots", "deep"]
    assert [r.image for r in records] == [tmp_path / "other" / r.id for r in records]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "OOD set .*empty has no images"),
        (["notes.txt"], "notes.txt is not an image"),
    ],
)
def test_a_folder_without_images(tmp_path: Path, files: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    touch(tmp_path / "empty", *files)
    with pytest.raises(InputError, match=message):
        load_outliers("folder:empty", root=tmp_path)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no"):
        load_outliers("folder:nowhere", root=tmp_path)
    with pytest.raises(UsageError, match="does not say what it is") as error:
        load_outliers(str(touch(tmp_path, "a/b.png") / "a"))
    assert error.value.hint == f"write --ood folder:{tmp_path / 'a'}"


@pytest.mark.parametrize(("splits", "expected"), [(("train", "test", "test", "val"), 2), (("", "", "", ""), 4)])
def test_a_list_gives_its_test_split_or_everything(tmp_path: Path, splits: tuple[str, ...], expected: int) -> None:
    names = [f"{i}.png" for i in range(4)]
    touch(tmp_path, *names)
    lines = [f"{name},dots,{split}" for name, split in zip(names, splits, strict=True)]
    (tmp_path / "list.csv").write_text("path,label,split\n" + "\n".join(lines))
    assert len(load_outliers("csv:list.csv", root=tmp_path).split("test")) == expected


def test_sets_are_named_apart_and_read_when_needed(tmp_path: Path) -> None:
    touch(tmp_path, "a/textures/1.png", "b/textures/1.png")
    specs = {"near": ("folder:a/textures",), "far": ("folder:b/textures", "folder:nowhere")}
    sets = sets_of(specs, partial(load_outliers, root=tmp_path))
    assert [(s.name, s.group) for s in sets] == [("textures", "near"), ("textures-2", "far"), ("nowhere", "far")]
    assert len(sets[1].dataset.split("test")) == 1
    with pytest.raises(InputError, match="nowhere"):
        _ = sets[2].dataset


def test_shared_names_are_found_as_a_tokenizer_reads_them() -> None:
    assert shared_names(["Grey_Wolf", "dots"], ["grey  wolf", "cat"]) == ["Grey_Wolf"]


# -- published collections ----------------------------------------------------------------------------------
def test_the_published_counts() -> None:
    counts = {name: {s.name: s.images for s in b.sets} for name, b in benchmarks().items()}
    assert counts == {
        "imagenet-mos": {"iNaturalist": 10000, "SUN": 10000, "Places": 10000, "Textures": 5640},
        "openood-v1.5": {
            "SSB-hard": 49000,
            "NINCO": 5879,
            "iNaturalist": 10000,
            "Textures": 5160,
            "OpenImage-O": 15869,
        },
    }
    assert [s.group for s in benchmark("openood-v1.5").sets] == ["near", "near", "far", "far", "far"]
    assert [benchmark(name).id_images for name in counts] == [50000, 45000]
    with pytest.raises(UsageError, match="imagenet-mso") as error:
        benchmark("imagenet-mso")
    assert error.value.hint == "did you mean 'imagenet-mos'?"


def small(name: str, images: int, **changes: Any) -> Benchmark:
    """A published collection with so many images in every set."""
    whole = benchmark(name)
    return whole.model_copy(
        update={"sets": tuple(s.model_copy(update={"images": images}) for s in whole.sets)} | changes
    )


def read(collection: Benchmark, root: Path) -> dict[str, Dataset | str]:
    """Each set, or what is wrong with it."""

    def outcome(ood_set: OodSet) -> Dataset | str:
        try:
            return ood_set.dataset
        except InputError as error:
            return f"{error.message} | {error.hint}"

    return {s.name: outcome(s) for s in collection.ood_sets(root=root)}


MOS_LAYOUTS: Mapping[str, tuple[str, str]] = {
    "MCM": ("ImageNet_OOD_dataset", "dtd/images/{}"),
    "LoCoOp": (".", "Texture/images/{}"),
    "GalLoP": ("ood_data", "dtd/images/{}"),
}


def mos_tree(root: Path, layout: str) -> Path:
    base, textures = MOS_LAYOUTS[layout]
    for name in ("iNaturalist", "SUN", "Places"):
        touch(root / base / name / "images", "1.jpg", "2.jpg")
    touch(root / base, textures.format("dotted/1.jpg"), textures.format("woven/2.jpg"), "dtd/labels/a.txt")
    return root


@pytest.mark.parametrize("layout", MOS_LAYOUTS)
def test_imagenet_mos_in_each_codes_layout(tmp_path: Path, layout: str) -> None:
    found = read(small("imagenet-mos", 2), mos_tree(tmp_path, layout))
    assert {name: len(d.split("test")) for name, d in found.items() if isinstance(d, Dataset)} == dict.fromkeys(
        ("iNaturalist", "SUN", "Places", "Textures"), 2
    )
    textures = found["Textures"]
    assert isinstance(textures, Dataset) and textures.class_names == ("dotted", "woven")
    assert textures.name == "Textures"


def test_what_is_missing_is_said_with_where_it_is_had(tmp_path: Path) -> None:
    mos_tree(tmp_path, "GalLoP")
    (tmp_path / "ood_data/SUN").rename(tmp_path / "ood_data/sun")
    (tmp_path / "ood_data/Places/images/2.jpg").unlink()
    found = read(small("imagenet-mos", 2), tmp_path)
    assert isinstance(found["iNaturalist"], Dataset)
    missing, short = str(found["SUN"]), str(found["Places"])
    assert missing.startswith("OOD set SUN is not there: no SUN in ImageNet_OOD_dataset or ood_data or . below .")
    assert str(tmp_path) in missing and "SUN.tar.gz" in missing
    assert "has 1 images, the published one 2" in short
    assert f"--ood folder:{tmp_path / 'ood_data/Places'}" in short


def openood_tree(root: Path) -> Path:
    lists = {
        "test_ssb_hard": ["ssb_hard/n01/1.jpg", "ssb_hard/n02/2 b.jpg"],
        "test_ninco": ["ninco/a/1.jpg", "ninco/a/2.jpg"],
        "test_inaturalist": ["inaturalist/images/1.jpg", "inaturalist/images/2.jpg"],
        "test_textures": ["texture/dotted/1.jpg", "texture/woven/2.jpg"],
        "test_openimage_o": ["openimage_o/images/1.jpg", "openimage_o/images/2.jpg"],
    }
    for name, paths in lists.items():
        images = "images_classic" if name == "test_textures" else "images_largescale"
        touch(root / "data" / images, *paths, "texture/dotted/not_listed.jpg")
        listed = root / "data/benchmark_imglist/imagenet" / f"{name}.txt"
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("".join(f"{path} -1\n" for path in paths))
    kept = root / "data/benchmark_imglist/imagenet/test_imagenet.txt"
    kept.write_text("imagenet_1k/val/ILSVRC2012_val_00000002.JPEG 0\nimagenet_1k/val/ILSVRC2012_val_00000003.JPEG 1\n")
    return root


def test_openood_by_its_own_lists(tmp_path: Path) -> None:
    found = read(small("openood-v1.5", 2), openood_tree(tmp_path))
    assert [type(d).__name__ for d in found.values()] == ["Dataset"] * 5, found
    hard = found["SSB-hard"]
    assert isinstance(hard, Dataset)
    assert [r.id for r in hard.split("test")] == ["ssb_hard/n01/1.jpg", "ssb_hard/n02/2 b.jpg"]
    (tmp_path / "data/images_largescale/ninco/a/2.jpg").unlink()
    (tmp_path / "data/benchmark_imglist/imagenet/test_textures.txt").unlink()
    found = read(small("openood-v1.5", 2), tmp_path)
    assert "image ninco/a/2.jpg of list" in str(found["NINCO"])
    assert "no benchmark_imglist/imagenet/test_textures.txt in openood or data" in str(found["Textures"])


@pytest.mark.parametrize("path", ["../../secret.jpg", "ninco/../../x.jpg", "/etc/hostname", "C:\\x.jpg"])
def test_a_listed_path_that_climbs_out_is_refused(path: str, tmp_path: Path) -> None:
    openood_tree(tmp_path)
    touch(tmp_path, "secret.jpg", "data/x.jpg")
    listed = tmp_path / "data/benchmark_imglist/imagenet/test_ninco.txt"
    listed.write_text(f"ninco/a/1.jpg -1\n\n{path} -1\n")
    found = read(small("openood-v1.5", 2), tmp_path)
    problem = f"{listed}, line 3: path {path!r} leaves the image folder | paths are relative, without '..'"
    assert found["NINCO"] == problem
    assert isinstance(found["SSB-hard"], Dataset)


def imagenet(n: int) -> Dataset:
    records = [Record(f"val/n0{i}/ILSVRC2012_val_{i:08}.JPEG", i % 2, Path("x.JPEG")) for i in range(n)]
    return Dataset("imagenet", "coop:imagenet", ("tench", "goldfish"), {"test": tuple(records)})


def test_openood_tests_on_its_own_part_of_imagenet(tmp_path: Path) -> None:
    part = benchmark("openood-v1.5").id_part(imagenet(5), root=openood_tree(tmp_path))
    assert [r.id[-13:] for r in part.split("test")] == ["00000002.JPEG", "00000003.JPEG"]
    other = Dataset("cats", "folder:cats", ("cat",), {"test": (Record("1.png", 0, Path("1.png")),)})
    assert benchmark("openood-v1.5").id_part(other, root=tmp_path) is other
    assert benchmark("imagenet-mos").id_part(imagenet(5), root=tmp_path).digest == imagenet(5).digest
    with pytest.raises(InputError, match=r"test_imagenet\.txt"):
        benchmark("openood-v1.5").id_part(imagenet(5), root=tmp_path / "elsewhere")

"""`coop:<name>` on small trees in the published layouts."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.data.benchmark_trees import LAYOUTS, PIXELS, write_images, write_split, write_tree
from vlmprompt.data.coop.facts import SplitFile, benchmark, benchmarks
from vlmprompt.data.coop.listing import read_listing
from vlmprompt.data.coop.place import Place
from vlmprompt.data.images import read_image
from vlmprompt.data.load import load_dataset
from vlmprompt.data.records import Dataset
from vlmprompt.errors import InputError, UsageError

NAMES = list(LAYOUTS)
JSON_SPLITS = [name for name in NAMES if name != "fgvc_aircraft"]


def load(name: str, root: Path, **options: bool | str) -> Dataset:
    return load_dataset(f"coop:{name}", root=root, **{"accept_split": True, **options})  # type: ignore[arg-type]


def failure(name: str, root: Path, **options: bool) -> tuple[str, str]:
    with pytest.raises(InputError) as caught:
        load(name, root, **options)
    return caught.value.message, caught.value.hint or ""


@pytest.mark.parametrize("name", NAMES)
def test_a_published_layout_is_read(name: str, tmp_path: Path) -> None:
    rows = write_tree(tmp_path, name)
    dataset = load(name, tmp_path)
    read = {part: [(r.id, r.label, dataset.class_names[r.label]) for r in dataset.split(part)] for part in rows}
    assert read == rows
    assert dataset.class_names == tuple(LAYOUTS[name].classes)
    assert (dataset.name, dataset.spec) == (name, f"coop:{name}")
    assert dataset.template == benchmark(name).template and dataset.template.count("{}") == 1
    assert {record.image for record in dataset.split("test")} == {
        tmp_path / LAYOUTS[name].images / path for path, _, _ in rows["test"]
    }
    assert read_image(dataset.split("test")[0]).size == (12, 10)
    assert dataset.notes["split"]["verified"] == "accepted"  # type: ignore[index]
    assert [w for w in dataset.warnings if "not the published one" in w] == dataset.warnings


@pytest.mark.parametrize(
    ("name", "moves"),
    [
        ("caltech101", {"caltech-101": "caltech101"}),
        ("oxford_pets", {"oxford_pets": "oxford-iiit-pet"}),
        ("flowers102", {"oxford_flowers": "flowers-102"}),
        ("flowers102", {"oxford_flowers": "flowers102"}),
        ("fgvc_aircraft", {"fgvc_aircraft": "fgvc-aircraft-2013b/data"}),
        ("dtd", {"dtd": "x", "x": "dtd/dtd"}),
        ("eurosat", {"eurosat": "x", "x/2750": "EuroSAT_RGB", "x": "eurosat"}),
        ("eurosat", {"eurosat/2750": "eurosat/EuroSAT_RGB"}),
        ("sun397", {"sun397/SUN397": "SUN397"}),
    ],
)
def test_other_known_layouts_are_read(name: str, moves: dict[str, str], tmp_path: Path) -> None:
    rows = write_tree(tmp_path, name)
    for old, new in moves.items():
        (tmp_path / new).parent.mkdir(exist_ok=True)
        (tmp_path / old).rename(tmp_path / new)
    dataset = load(name, tmp_path)
    assert [record.id for record in dataset.split("train")] == [path for path, _, _ in rows["train"]]
    assert dataset.split("train")[0].image.is_file()  # type: ignore[union-attr]


@pytest.mark.parametrize("name", NAMES)
def test_the_split_alone_is_enough_to_sample(name: str, tmp_path: Path) -> None:
    """It is looked for in the data set's folder, then in the root itself."""
    rows = write_tree(tmp_path, name)
    with_images = load(name, tmp_path)
    for file in (tmp_path / LAYOUTS[name].split).parent.glob("*.*"):
        if file.is_file():
            file.rename(tmp_path / file.name)
    shutil.rmtree(tmp_path / LAYOUTS[name].images)
    alone = load(name, tmp_path, need_images=False)
    assert alone.digest == with_images.digest
    assert [record.id for record in alone.split("val")] == [path for path, _, _ in rows["val"]]


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_folder(name: str, tmp_path: Path) -> None:
    message, hint = failure(name, tmp_path, need_images=False)
    assert f"coop:{name} has no {Path(LAYOUTS[name].split).name}" in message or "no images_variant" in message
    write_split(tmp_path, name, LAYOUTS[name].rows())
    for file in (tmp_path / LAYOUTS[name].split).parent.iterdir():
        file.rename(tmp_path / file.name)
    shutil.rmtree((tmp_path / LAYOUTS[name].split).parent)
    message, hint = failure(name, tmp_path)
    folder = LAYOUTS[name].images.partition("/")[0]
    assert message == f"there is no folder {folder} for coop:{name} in {tmp_path}"
    assert benchmark(name).source in hint and "--root" in hint


@pytest.mark.parametrize("name", NAMES)
def test_renamed_folders(name: str, tmp_path: Path) -> None:
    write_tree(tmp_path, name)
    folder, _, inner = LAYOUTS[name].images.partition("/")
    (tmp_path / folder).rename(tmp_path / f"{folder}_old")
    for file in (tmp_path / f"{folder}_old").glob("*.*"):
        if file.is_file():
            shutil.copy(file, tmp_path)
    message, hint = failure(name, tmp_path)
    assert f"no folder {folder}" in message and f"rename {folder}_old to {folder}" in hint
    (tmp_path / f"{folder}_old").rename(tmp_path / folder)
    if inner:
        (tmp_path / folder / inner).rename(tmp_path / folder / "pictures")
        message, hint = failure(name, tmp_path)
        assert f"has no folder {inner} in {tmp_path / folder}" in message and "pictures" in message
        assert f"{folder}/{inner}" in hint


def test_a_renamed_class_folder_is_named(tmp_path: Path) -> None:
    write_tree(tmp_path, "dtd")
    (tmp_path / "dtd/images/banded").rename(tmp_path / "dtd/images/stripes")
    message, _ = failure("dtd", tmp_path)
    assert message.startswith(f"8 of 16 images of coop:dtd are not in {tmp_path}/dtd/images: banded/banded_0001.jpg,")
    assert message.endswith("; there is no folder banded")
    write_tree(tmp_path, "stanford_cars")
    (tmp_path / "stanford_cars/cars_test").rename(tmp_path / "stanford_cars/test")
    assert failure("stanford_cars", tmp_path)[0].endswith("there is no folder cars_test")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("need_images", [False, True])
def test_a_renamed_folder_with_the_split_in_it(name: str, need_images: bool, tmp_path: Path) -> None:
    write_tree(tmp_path, name)
    folder = LAYOUTS[name].images.partition("/")[0]
    (tmp_path / folder).rename(tmp_path / f"{folder}_old")
    message, hint = failure(name, tmp_path, need_images=need_images)
    assert f"coop:{name} has no " in message and f"neither in {tmp_path / folder} nor in {tmp_path}" in message
    assert hint == f"rename {folder}_old to {folder} if that is it; else see 'vlmprompt data show coop:{name}'"


def test_the_folder_of_another_benchmark_is_no_renamed_one(tmp_path: Path) -> None:
    write_tree(tmp_path, "flowers102")
    assert "https://github.com" in failure("oxford_pets", tmp_path)[1]
    shutil.copy(tmp_path / LAYOUTS["flowers102"].split, tmp_path / "split_zhou_OxfordPets.json")
    message, hint = failure("oxford_pets", tmp_path)
    assert "no folder oxford_pets" in message and benchmark("oxford_pets").source in hint


@pytest.mark.parametrize("name", [*NAMES, "imagenet"])
def test_a_root_that_does_not_exist(name: str, tmp_path: Path) -> None:
    _, hint = failure(name, tmp_path / "typo")
    folder = benchmark(name).folders[0]
    expected = f"there is no folder {tmp_path / 'typo'}; --root (or VLMPROMPT_ROOT) is the parent of {folder}"
    assert hint == expected


def test_the_folder_itself_as_root(tmp_path: Path) -> None:
    write_tree(tmp_path, "dtd")
    _, hint = failure("dtd", tmp_path / "dtd")
    assert hint == "--root is the parent folder of dtd, not that folder itself"


@pytest.mark.parametrize("name", NAMES)
def test_missing_images_are_counted(name: str, tmp_path: Path) -> None:
    rows = write_tree(tmp_path, name)
    gone = rows["test"][1][0]
    (tmp_path / LAYOUTS[name].images / gone).unlink()
    message, hint = failure(name, tmp_path)
    assert re.match(rf"1 of \d+ images of coop:{name} are not in .*: {re.escape(gone)}$", message)
    assert f"vlmprompt data check coop:{name}" in hint


@pytest.mark.parametrize("name", NAMES)
def test_a_stray_file_is_a_warning(name: str, tmp_path: Path) -> None:
    rows = write_tree(tmp_path, name)
    beside = (tmp_path / LAYOUTS[name].images / rows["train"][0][0]).parent / "copy of 1.jpg"
    beside.write_bytes(PIXELS)
    (beside.parent / ".hidden").write_text("left by a file manager")
    (tmp_path / LAYOUTS[name].images.partition("/")[0] / "README").write_text("beside the images")
    stray = beside.relative_to(tmp_path / LAYOUTS[name].images).as_posix()
    expected = f"1 file(s) in {tmp_path / LAYOUTS[name].images} are in no split: {stray}"
    assert load(name, tmp_path).warnings[-1] == expected


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("caltech101", ["BACKGROUND_Google/image_0001.jpg", "BACKGROUND_Google/tmp", "Faces_easy/image_0001.jpg"]),
        ("oxford_pets", ["Abyssinian_100.mat", "Egyptian_Mau_14.jpg"]),
        ("sun397", ["ClassName.txt", "b/bog/sun_abcdefghijklmnop.jpg"]),
        ("stanford_cars", ["devkit/cars_meta.mat", "cars_test_annos_withlabels.mat"]),
    ],
)
def test_what_is_published_beside_the_split_is_no_stray(name: str, files: list[str], tmp_path: Path) -> None:
    write_tree(tmp_path, name)
    write_images(tmp_path / LAYOUTS[name].images, files)
    assert not [warning for warning in load(name, tmp_path).warnings if "no split" in warning]


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_split_is_never_made(name: str, tmp_path: Path) -> None:
    write_tree(tmp_path, name)
    file = tmp_path / LAYOUTS[name].split
    file.unlink()
    message, hint = failure(name, tmp_path)
    assert f"coop:{name} has no {file.name}" in message and str(file.parent) in message
    assert "made in its place" in hint and "https://" in hint
    assert not file.exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_split_that_is_not_the_published_one(name: str, tmp_path: Path) -> None:
    write_tree(tmp_path, name)
    message, hint = failure(name, tmp_path, accept_split=False)
    file = tmp_path / LAYOUTS[name].split
    if benchmark(name).split and benchmark(name).split.sha256:  # type: ignore[union-attr]
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        assert f"{file} is not the published file: its SHA-256 is {digest}..., not " in message
    else:
        assert "is not the published split: it has 2 classes and 8/4/4 images, published are" in message
    assert "--accept-split" in hint


def test_a_known_digest_or_known_numbers_verify(tmp_path: Path) -> None:
    write_tree(tmp_path, "dtd")
    file = tmp_path / LAYOUTS["dtd"].split
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for known in (digest, digest[:12]):
        facts = benchmark("dtd").model_copy(update={"split": SplitFile(file=file.name, sha256=known)})
        _, note = read_listing(Place.below(tmp_path, facts), accept=False)
        assert note == {"files": {file.name: digest}, "verified": "sha256"}
        file.write_text(file.read_text() + " ")
        with pytest.raises(InputError, match="not the published file"):
            read_listing(Place.below(tmp_path, facts), accept=False)
        file.write_text(file.read_text()[:-1])
    numbers = {"classes": 2, "images": {"train": 8, "val": 4, "test": 4}, "split": SplitFile(file=file.name)}
    _, note = read_listing(Place.below(tmp_path, benchmark("dtd").model_copy(update=numbers)), accept=False)
    assert note["verified"] == "counts"


@pytest.mark.parametrize(
    "path", ["../secret.jpg", "banded/../../x.jpg", "/etc/x.jpg", "C:\\x.jpg", "a\\..\\..\\x.jpg", ".."]
)
@pytest.mark.parametrize("name", NAMES)
def test_a_path_that_climbs_out_is_refused(name: str, path: str, tmp_path: Path) -> None:
    rows = write_tree(tmp_path, name)
    label = rows["val"][0][1:]
    write_split(tmp_path, name, rows | {"val": [(path, *label)]})
    message, _ = failure(name, tmp_path)
    assert "leaves the image folder" in message and repr(path.removesuffix(".jpg"))[:-1] in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is no split file"),
        ('{"train": [], "test": [], "extra": []}', "is no split file"),
        ('{"train": {}, "test": []}', "train of .* is not a list"),
        ('{"train": [["a.jpg", 0]], "test": []}', r'train row 1 is not \[path, label, class name\]: \["a.jpg", 0\]'),
        ('{"train": [["a.jpg", true, "a"]], "test": []}', "train row 1 is not"),
        ('{"train": [["a.jpg", -1, "a"]], "test": []}', "train row 1 is not"),
        ('{"train": [["a.jpg", 1, "a"]], "test": []}', "has no images of label 0"),
        (
            '{"train": [["a.jpg", 0, "a"]], "test": [["b.jpg", 0, "b"]]}',
            "test row 1: label 0 is 'b', in a row before it is 'a'",
        ),
    ],
)
def test_a_malformed_split_file(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "split_zhou_UCF101.json").write_text(content)
    assert re.search(message, failure("ucf101", tmp_path, need_images=False)[0])


def test_an_image_in_two_splits_is_a_warning(tmp_path: Path) -> None:
    row = ["a.jpg", 0, "a"]
    (tmp_path / "split_zhou_UCF101.json").write_text(json.dumps({"train": [row], "test": [row]}))
    assert load("ucf101", tmp_path, need_images=False).warnings[-1] == "1 image(s) are listed more than once: a.jpg"


def test_malformed_lists(tmp_path: Path) -> None:
    write_tree(tmp_path, "fgvc_aircraft")
    file = tmp_path / "fgvc_aircraft/images_variant_val.txt"
    file.write_text("1025795 707-320\n0457125 Concorde\n")
    assert failure("fgvc_aircraft", tmp_path)[0] == f"{file}, line 2: 'Concorde' is no class of the data set"


def test_aircraft_trains_on_trainval_under_gallops_protocol(tmp_path: Path) -> None:
    rows = write_tree(tmp_path, "fgvc_aircraft")
    dataset = load("fgvc_aircraft", tmp_path, protocol="gallop-code")
    assert [record.id for record in dataset.split("train")] == [path for path, _, _ in [*rows["train"], *rows["val"]]]
    assert sorted(dataset.splits) == ["test", "train"]
    (tmp_path / "fgvc_aircraft/images_variant_trainval.txt").unlink()
    with pytest.raises(InputError, match="has no images_variant_trainval"):
        load("fgvc_aircraft", tmp_path, protocol="gallop-code")
    assert load("dtd", _tree(tmp_path, "dtd"), protocol="gallop-code").digest == load("dtd", tmp_path).digest


def _tree(root: Path, name: str) -> Path:
    write_tree(root, name)
    return root


def test_class_names_of_ones_own(tmp_path: Path) -> None:
    write_tree(tmp_path, "ucf101")
    names = tmp_path / "names.txt"
    names.write_text("putting on make-up\nplaying with a yo-yo\n")
    dataset = load_dataset("coop:ucf101", root=tmp_path, class_names_file=names, accept_split=True)
    assert dataset.class_names == ("putting on make-up", "playing with a yo-yo")
    names.write_text("only one\n")
    with pytest.raises(InputError, match="has 1 class names, the data set has 2 classes"):
        load_dataset("coop:ucf101", root=tmp_path, class_names_file=names, accept_split=True)


def test_names(tmp_path: Path) -> None:
    write_tree(tmp_path, "dtd")
    assert load_dataset("dtd", root=tmp_path, accept_split=True).spec == "coop:dtd"
    for wrong, hint in {
        "oxford_flowers": "it is called coop:flowers102 here",
        "Caltech-101": "it is called coop:caltech101 here",
        "imagenetv2": "it is called coop:imagenet-v2 here",
        "food102": "did you mean 'food101'?",
        "../dtd": "did you mean 'dtd'?",
    }.items():
        with pytest.raises(UsageError, match="unknown benchmark data set") as caught:
            load_dataset(f"coop:{wrong}", root=tmp_path)
        assert caught.value.hint == hint


def test_accepting_a_split_where_there_is_none_is_told(tmp_path: Path) -> None:
    write_images(tmp_path / "photos", [f"{split}/{name}/1.jpg" for split in ("train", "test") for name in ("a", "b")])
    dataset = load_dataset("folder:photos", root=tmp_path, accept_split=True)
    assert dataset.warnings[-1] == "accept_split has no effect: no split of 'folder:photos' has been published"


def test_every_benchmark_is_described_completely() -> None:
    for name, facts in benchmarks().items():
        assert sum(x is not None for x in (facts.split, facts.lists, facts.class_folders)) == 1, name
        assert facts.template.count("{}") == 1 and facts.source and facts.images["test"]
    assert json.dumps({name: facts.classes for name, facts in benchmarks().items()}) == json.dumps(
        {
            "imagenet": 1000,
            "caltech101": 100,
            "oxford_pets": 37,
            "stanford_cars": 196,
            "flowers102": 102,
            "food101": 101,
            "fgvc_aircraft": 100,
            "sun397": 397,
            "dtd": 47,
            "eurosat": 10,
            "ucf101": 101,
            "imagenet-v2": 1000,
            "imagenet-sketch": 1000,
            "imagenet-a": 200,
            "imagenet-r": 200,
        }
    )


ARCHIVES = [name for name in benchmarks() if benchmark(name).archive]


def test_a_collection_of_copies_is_named(tmp_path: Path) -> None:
    assert len(ARCHIVES) == 14 and set(benchmarks()) - set(ARCHIVES) == {"imagenet"}
    _, hint = failure("imagenet-a", tmp_path)
    assert "imagenet-adversarial.zip of https://huggingface.co/zhengli97/prompt_learning_dataset (not verified" in hint
    _, hint = failure("dtd", tmp_path)
    assert "dtd.zip of zhengli97/prompt_learning_dataset" in hint


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_that_is_not_unpacked(name: str, tmp_path: Path) -> None:
    archive = benchmark(name).archive
    write_tree(tmp_path / "origin", name)
    with zipfile.ZipFile(tmp_path / archive, "w") as file:
        for path in (tmp_path / "origin").rglob("*.*"):
            file.write(path, path.relative_to(tmp_path / "origin"))
    _, hint = failure(name, tmp_path)
    assert hint == f"unpack it in {tmp_path}: python -m zipfile -e {archive} ."
    with pytest.raises(InputError) as caught:
        load_dataset(f"hf:{tmp_path}")
    assert caught.value.hint == f"its published split is read by --data coop:{name} --root {tmp_path}"
    with zipfile.ZipFile(tmp_path / archive) as file:
        file.extractall(tmp_path)
    assert load(name, tmp_path).digest == load(name, tmp_path / "origin").digest


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_is_not_read_without_its_split(name: str, tmp_path: Path) -> None:
    """Its class folders alone would be split anew, in numbers that compare with none."""
    write_tree(tmp_path, name)
    folder = (tmp_path / LAYOUTS[name].split).parent
    for path in (folder, tmp_path):
        with pytest.raises(InputError, match=f"holds coop:{name} in CoOp's layout") as caught:
            load_dataset(f"hf:{path}")
        assert caught.value.hint == f"its published split is read by --data coop:{name} --root {tmp_path}"


def test_the_collection_is_no_table() -> None:
    with pytest.raises(InputError, match="is no table but zip files") as caught:
        load_dataset("hf:zhengli97/prompt_learning_dataset")
    assert "--data coop:dtd --root DATA" in (caught.value.hint or "")

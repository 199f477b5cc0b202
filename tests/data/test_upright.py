"""Pictures as a viewer shows them: turned by EXIF orientation, over white; and as stored where that is wanted."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.benchmark_trees import LAYOUTS, write_tree
from vlmprompt.cli import output
from vlmprompt.cli.main import main
from vlmprompt.data.images import decode, read_image
from vlmprompt.data.load import load_dataset, load_outliers
from vlmprompt.data.records import Dataset
from vlmprompt.data.sheet import CAPTION, GAP, SIDE
from vlmprompt.errors import InputError

ORIENTATION = 0x0112
# What a viewer makes of rows of pixels, by the table of the EXIF standard (JEITA CP-3451, tag Orientation).
SHOWN: Mapping[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),  # a quarter clockwise: how telephones write what was held upright
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
PIXELS = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 14


def picture(pixels: np.ndarray, orientation: int | None, kind: str = "PNG", **options: object) -> bytes:
    content, exif = io.BytesIO(), Image.Exif()
    if orientation is not None:
        exif[ORIENTATION] = orientation
        options |= {"exif": exif}
    Image.fromarray(pixels).save(content, format=kind, **options)
    return content.getvalue()


def read(content: bytes, *, upright: bool) -> np.ndarray:
    return np.asarray(decode(io.BytesIO(content), "it", upright=upright))


@pytest.mark.parametrize("orientation", SHOWN)
def test_every_orientation(orientation: int) -> None:
    for kind, options in [("PNG", {}), ("WEBP", {"lossless": True})]:
        content = picture(PIXELS, orientation, kind, **options)
        assert np.array_equal(read(content, upright=True), SHOWN[orientation](PIXELS)), kind
        assert np.array_equal(read(content, upright=False), PIXELS), kind


def test_jpeg_and_avif() -> None:
    halves = np.zeros((16, 32, 3), dtype=np.uint8)
    halves[:, 16:] = 255
    for kind in ("JPEG", "AVIF"):
        pixels = read(picture(halves, 6, kind), upright=True)
        assert pixels.shape == (32, 16, 3) and pixels[:12].max() < 40 and pixels[20:].min() > 215, kind


@pytest.mark.parametrize("orientation", [None, 0, 9, 1000])
def test_what_is_no_orientation_turns_nothing(orientation: int | None) -> None:
    assert np.array_equal(read(picture(PIXELS, orientation), upright=True), PIXELS)


def test_broken_exif_data_turn_nothing() -> None:
    content = picture(PIXELS, None, exif=b"Exif\0\0nonsense")
    assert np.array_equal(read(content, upright=True), PIXELS)


def test_grey_levels_are_turned_too() -> None:
    content = picture(np.array([[0, 65535, 65535]], dtype=np.uint16), 6)
    assert read(content, upright=True)[..., 0].tolist() == [[0], [255], [255]]


@pytest.mark.parametrize(
    ("mode", "clear", "half"),
    [("LA", (90, 0), (90, 51)), ("RGBA", (90, 90, 90, 0), (90, 90, 90, 51)), ("P", 1, 2), ("L", 90, None)],
)
def test_transparency_shows_white(mode: str, clear: object, half: object) -> None:
    """A fifth of 90 over white: 0.2 * 90 + 0.8 * 255 = 222."""
    image = Image.new(mode, (2, 1))
    options: dict[str, object] = {}
    if mode == "P":
        image.putpalette([0, 0, 0, 90, 90, 90, 90, 90, 90])
        options["transparency"] = b"\xff\x00\x33"
    if mode == "L":
        options["transparency"] = 90
    image.putpixel((0, 0), clear)
    image.putpixel((1, 0), clear if half is None else half)
    content = io.BytesIO()
    image.save(content, format="PNG", **options)
    shown = read(content.getvalue(), upright=True)[0, :, 0].tolist()
    assert shown == [255, 255 if half is None else 222]
    assert read(content.getvalue(), upright=False)[0, :, 0].tolist() == [90, 90]


def test_opaque_pictures_are_the_same_both_ways() -> None:
    for mode in ("RGB", "RGBA", "L", "LA", "P", "CMYK", "1", "YCbCr"):
        content = io.BytesIO()
        Image.fromarray(PIXELS).convert(mode).save(content, format="TIFF" if mode in ("CMYK", "YCbCr") else "PNG")
        both = [read(content.getvalue(), upright=upright) for upright in (True, False)]
        assert np.array_equal(*both), mode


TURNED = picture(PIXELS, 6)


def photos(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            (tmp_path / "photos" / split / name / "1.png").write_bytes(TURNED)
    return tmp_path / "photos"


def lists(tmp_path: Path) -> list[str]:
    (tmp_path / "a.png").write_bytes(TURNED)
    (tmp_path / "list.csv").write_text("path,label,split\na.png,cat,train\n")
    (tmp_path / "list.json").write_text(json.dumps([{"path": "a.png", "label": "cat", "split": "train"}]))
    return [f"csv:{tmp_path / 'list.csv'}", f"json:{tmp_path / 'list.json'}"]


def shard(tmp_path: Path) -> str:
    (tmp_path / "shards" / "train").mkdir(parents=True)
    with tarfile.open(tmp_path / "shards" / "train" / "0.tar", "w") as tar:
        for name, content in {"1.png": TURNED, "1.cls": b"cat"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return f"wds:{tmp_path / 'shards'}"


def hub(tmp_path: Path) -> str:
    datasets = pytest.importorskip("datasets")
    rows = {"image": [{"bytes": TURNED, "path": None}], "label": [0]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat"])})
    table = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": table}).save_to_disk(str(tmp_path / "saved"))
    return f"hf:{tmp_path / 'saved'}?test=train"


def shape(dataset: Dataset) -> tuple[int, ...]:
    return np.asarray(read_image(next(iter(dataset.splits.values()))[0])).shape


def test_people_s_own_pictures_are_upright(tmp_path: Path) -> None:
    specs = [f"folder:{photos(tmp_path)}", *lists(tmp_path), shard(tmp_path), hub(tmp_path)]
    for spec in specs:
        upright, stored = load_dataset(spec), load_dataset(spec, exif=False)
        assert (shape(upright), shape(stored)) == ((3, 2, 3), (2, 3, 3)), spec
        assert upright.digest != stored.digest, spec
        assert not stored.warnings, spec


def test_at_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = f"folder:{photos(tmp_path)}"
    for flags, exif in [((), True), (("--no-exif",), False)]:
        output.begin()  # a process prints one document
        assert main(["data", "show", spec, "--sheet", str(tmp_path / "sheet.png"), *flags, "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)["data"]
        assert shown["digest"] == load_dataset(spec, exif=exif).digest
        with Image.open(tmp_path / "sheet.png") as sheet:
            first = np.asarray(sheet.crop((GAP, GAP + CAPTION, GAP + SIDE, GAP + CAPTION + SIDE)))
        grey = (first == 0xEE).all(axis=-1)  # beside the picture, 3 x 2 pixels, or above and below
        assert (grey[56].any(), grey[:, 56].any()) == (exif, not exif)


def test_sets_of_outliers_too(tmp_path: Path) -> None:
    for spec in (f"folder:{photos(tmp_path)}", lists(tmp_path)[0]):
        assert shape(load_outliers(spec)) == (3, 2, 3)
        assert shape(load_outliers(spec, exif=False)) == (2, 3, 3)


def test_benchmarks_are_read_as_they_are_stored(tmp_path: Path) -> None:
    write_tree(tmp_path, "dtd")
    images = tmp_path / LAYOUTS["dtd"].images
    for path in images.rglob("*.jpg"):
        path.write_bytes(picture(PIXELS, 6, "JPEG"))
    found = load_dataset("coop:dtd", root=tmp_path, accept_split=True)
    assert shape(found) == (2, 3, 3)
    plain = load_dataset("coop:dtd", root=tmp_path, accept_split=True, exif=False)
    assert plain.digest == found.digest
    assert plain.warnings[-1] == "exif has no effect: images of 'coop:dtd' are read as they are stored"


def test_a_digest_from_before_stands_for_pictures_as_stored(tmp_path: Path) -> None:
    """The digest of version 0.1.0.dev0, which did not turn pictures."""
    stored = load_dataset(f"folder:{photos(tmp_path)}", exif=False)
    assert stored.digest == "9ef3c95c698cfcb804c97c6228ea6bfa73cbfec85ee2328b80eb0bef0a4a5d9c"


@pytest.mark.parametrize("split", [', "split": "train"', ""])
def test_names_that_cannot_be_written_down_are_refused(tmp_path: Path, split: str) -> None:
    rows = []
    for i in range(4):
        (tmp_path / f"{i}\udc80.png").write_bytes(TURNED)
        rows.append(f'{{"path": "{i}\\udc80.png", "label": "cat"{split}}}')
    (tmp_path / "list.json").write_text(f"[{', '.join(rows)}]")
    with pytest.raises(InputError, match=r"a file name is not UTF-8, at .*0.udc80\.png"):
        load_dataset(f"json:{tmp_path / 'list.json'}")

"""Which formats are read: by one table, whatever a file is called."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, PngImagePlugin, features

from tests.data.conftest import MakeTree
from vlmprompt.data import formats, images
from vlmprompt.data.files import is_image
from vlmprompt.data.formats import FORMATS, IMAGE_SUFFIXES, lacking, readable
from vlmprompt.data.images import decode, read_image
from vlmprompt.data.load import load_dataset
from vlmprompt.data.records import Record
from vlmprompt.errors import InputError

BLUE = (30, 60, 200)


def test_the_table() -> None:
    assert {"JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF"} <= set(readable()) <= set(FORMATS)
    assert ("AVIF" in readable()) is bool(features.check("avif"))
    registered = Image.registered_extensions()
    for name, suffixes in FORMATS.items():
        if name != "HEIF":
            assert {registered[suffix] for suffix in suffixes} == {name}
    assert all(is_image(f"x{suffix.upper()}") for suffix in IMAGE_SUFFIXES)
    assert not any(is_image(name) for name in ("x.eps", "x.ps", "x.pdf", "x.psd", "x.svg", "x.txt", "jpg"))


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"HEIF"}))
def test_every_format_is_read_whatever_the_file_is_called(tmp_path: Path, name: str) -> None:
    if name not in readable():
        pytest.skip(f"this Pillow has no {name}")
    for suffix in (*FORMATS[name], ".jpg", ".png"):
        path = tmp_path / f"blue{suffix}"
        Image.new("RGB", (8, 6), BLUE).save(path, format=name)
        found = read_image(Record(path.name, 0, path))
        assert (found.mode, found.size) == ("RGB", (8, 6))
        assert found.getpixel((3, 3)) == pytest.approx(BLUE, abs=12)


def test_pictures_of_several_frames_show_their_first(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (BLUE, (200, 0, 0))]
    for name in ("GIF", "PNG", "TIFF", "WEBP"):
        frames[0].save(tmp_path / "many", format=name, save_all=True, append_images=frames[1:])
        found = decode(tmp_path / "many", "many")
        assert found.getpixel((1, 1)) == pytest.approx(BLUE, abs=6), name


def test_no_other_program_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header alone, of PostScript that draws nothing."""

    def started(*args: object, **more: object) -> None:
        raise AssertionError("Ghostscript was asked for")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)
    header = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n%%EOF\n"
    (tmp_path / "picture.jpg").write_bytes(header)
    with pytest.raises(InputError, match=r"picture\.jpg: it is no image in a known format") as error:
        read_image(Record("picture.jpg", 0, tmp_path / "picture.jpg"))
    assert "read are JPEG, PNG" in (error.value.hint or "")
    with pytest.raises(InputError, match="it is no image in a known format"):
        decode(io.BytesIO(header), "member")


@pytest.mark.parametrize("kind", ["ICO", "PCX", "TGA", "SGI", "DDS"])
def test_other_formats_of_pillow_are_not_read(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (8, 8), BLUE).save(tmp_path / "picture.png", format=kind)
    with pytest.raises(InputError, match="it is no image in a known format"):
        read_image(Record("picture.png", 0, tmp_path / "picture.png"))


def test_class_folders_hold_all_of_them(make_tree: MakeTree) -> None:
    base = make_tree(f"{split}/cat/x{suffix}" for split in ("train", "test") for suffix in (".jfif", ".avif", ".jp2"))
    assert [r.id for r in load_dataset(f"folder:{base}").splits["test"]] == [
        f"test/cat/x{suffix}" for suffix in (".avif", ".jfif", ".jp2")
    ]


@pytest.fixture
def without_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extra was not installed."""
    left = tuple(name for name in readable() if name != "HEIF")
    for module in (formats, images):
        monkeypatch.setattr(module, "readable", lambda: left)


@pytest.mark.usefixtures("without_heif")
def test_heic_without_the_extra_is_named_before_any_work(make_tree: MakeTree, tmp_path: Path) -> None:
    base = make_tree(["train/cat/a.jpg", "train/cat/b.HEIC", "test/cat/c.jpg"])
    with pytest.raises(InputError, match=r"train/cat/b\.HEIC is HEIF, which nothing installed here reads") as error:
        load_dataset(f"folder:{base}")
    assert error.value.hint == "pip install 'vlmprompt[heic]'"
    (tmp_path / "list.csv").write_text("path,label,split\nphotos/train/cat/b.HEIC,cat,train\n")
    with pytest.raises(InputError, match="is HEIF, which nothing installed here reads"):
        load_dataset(f"csv:{tmp_path / 'list.csv'}")


@pytest.mark.usefixtures("without_heif")
def test_heic_under_another_name_is_told(tmp_path: Path) -> None:
    """Telephones write it into files called .jpg."""
    for brand in (b"heic", b"mif1"):
        (tmp_path / "photo.jpg").write_bytes(b"\0\0\0\x1cftyp" + brand + bytes(32))
        with pytest.raises(InputError, match=r"photo\.jpg: nothing installed here reads HEIF") as error:
            read_image(Record("photo.jpg", 0, tmp_path / "photo.jpg"))
        assert error.value.hint == "pip install 'vlmprompt[heic]'"


def test_a_pillow_without_a_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "readable", lambda: ("JPEG", "PNG"))
    assert lacking("x.avif") == ("AVIF", "pip install --upgrade pillow")
    assert lacking("x.jpg", b"\0\0\0\x1cftypavif") == ("AVIF", "pip install --upgrade pillow")
    assert lacking("x.jpg") is None and lacking("x.txt") is None


def test_heic_with_the_extra(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    halves = np.zeros((32, 64, 3), dtype=np.uint8)
    halves[:, 32:] = 255
    assert "HEIF" in readable()
    Image.fromarray(halves).save(tmp_path / "a.heic")
    found = np.asarray(read_image(Record("a.heic", 0, tmp_path / "a.heic")))
    assert found.shape == (32, 64, 3) and found[:, :28].max() < 30 and found[:, 36:].min() > 225


# -- damage -----------------------------------------------------------------------------------------
def bmp(width: int, height: int) -> bytes:
    """A BMP that says so of its size, and has 8 bytes of pixels."""
    content = bytearray(_saved("BMP", Image.new("RGB", (2, 1))))
    content[18:26] = width.to_bytes(4, "little") + height.to_bytes(4, "little")
    return bytes(content)


def _saved(kind: str, image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, format=kind)
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (bmp(60_000, 60_000), "3600000000 pixels"),
        (bmp(2_000_000_000, 1), "2000000000 pixels"),
        (bmp(0, 4), ""),
        (bmp(4, 0), ""),
        (bmp(400, 400), ""),
        (b"P5 0 0 255\n", ""),
        (b"P6 99999999 99999999 255\n", "pixels"),
        (b"P6 9000 9999 255\n", "truncated"),
        (b"", "it is no image in a known format"),
        (b"\xff\xd8\xff", ""),
        (b"GIF89a" + bytes(10), ""),
        (b"RIFF\x10\0\0\0WEBPVP8 ", ""),
        (b"II*\0\x08\0\0\0\0\0", ""),
    ],
)
@pytest.mark.filterwarnings("error")
def test_damage_is_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(InputError, match=rf"cannot read image .*bad\.png: .*{reason}") as error:
        read_image(Record("bad.png", 0, tmp_path / "bad.png"))
    assert "\n" not in error.value.message


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"HEIF"}))
def test_every_cut_of_every_format_is_one_line_or_a_picture(tmp_path: Path, name: str) -> None:
    if name not in readable():
        pytest.skip(f"this Pillow has no {name}")
    noise = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    whole = _saved(name, Image.fromarray(noise))
    for end in range(0, len(whole), max(1, len(whole) // 40)):
        try:
            found = decode(io.BytesIO(whole[:end]), "cut")
        except InputError as error:
            assert error.message.startswith("cannot read image cut: ") and "\n" not in error.message
        else:
            assert found.size == (24, 24)


@pytest.mark.parametrize("step", ["load", "convert"])
def test_short_memory_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def short(self: Image.Image, *args: object, **more: object) -> None:
        raise MemoryError

    path = tmp_path / "large.png"
    Image.new("L", (4, 4)).save(path)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, step, short)
    with pytest.raises(InputError, match=r"large\.png: there is not enough memory for its pixels"):
        read_image(Record("large.png", 0, path))


def test_large_pictures_are_read_without_a_word_up_to_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    content = _saved("PNG", Image.new("1", (9_500, 9_500)))  # 90 million pixels: above what Pillow warns of
    monkeypatch.setattr(images, "_converted", lambda image, over_white: image)  # 270 MB in RGB are not the matter
    assert decode(io.BytesIO(content), "large").size == (9_500, 9_500)
    monkeypatch.setattr(images, "MOST_PIXELS", 90_000_000)
    with pytest.raises(InputError, match="it has 9500 x 9500 pixels; read are 1 to 90,000,000 in all"):
        decode(io.BytesIO(content), "large")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000_000)  # Pillow refuses what has more than twice as many
    with pytest.raises(InputError, match=r"large: Image size \(90250000 pixels\); read are 1 to 90,000,000 in all"):
        decode(io.BytesIO(content), "large")

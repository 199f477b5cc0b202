"""Decoding of every kind of pixel, and of what is none."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlmprompt.data import images
from vlmprompt.data.images import read_image
from vlmprompt.data.records import Record
from vlmprompt.errors import InputError
from vlmprompt.regular import read_at_once


def saved(path: Path, image: Image.Image, **options: object) -> Record:
    image.save(path, **options)
    return Record(path.name, 0, path)


def pixel(record: Record) -> tuple[int, ...]:
    image = read_image(record)
    assert image.mode == "RGB"
    value = image.getpixel((0, 0))
    assert isinstance(value, tuple)
    return value


def test_every_mode_becomes_rgb(tmp_path: Path) -> None:
    assert pixel(saved(tmp_path / "l.png", Image.new("L", (2, 2), 90))) == (90, 90, 90)
    assert pixel(saved(tmp_path / "1.png", Image.new("1", (2, 2), 1))) == (255, 255, 255)
    assert pixel(saved(tmp_path / "la.png", Image.new("LA", (2, 2), (90, 0)))) == (90, 90, 90)
    assert pixel(saved(tmp_path / "rgba.png", Image.new("RGBA", (2, 2), (1, 2, 3, 0)))) == (1, 2, 3)
    assert pixel(saved(tmp_path / "cmyk.tif", Image.new("CMYK", (2, 2), (255, 0, 0, 0)))) == (0, 255, 255)
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 7, 8, 9])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixel(saved(tmp_path / "p.png", palette, transparency=b"\x80\x00")) == (7, 8, 9)


def test_16_bit_grey_keeps_its_levels(tmp_path: Path) -> None:
    levels = np.array([[0x0000, 0x12FF], [0x8000, 0xFFFF]], dtype=np.uint16)
    record = saved(tmp_path / "grey.png", Image.fromarray(levels))
    assert np.asarray(read_image(record))[..., 0].tolist() == [[0, 0x12], [0x80, 0xFF]]


def test_orientation_tags_are_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_image(saved(tmp_path / "turned.jpg", Image.new("RGB", (4, 2)), exif=exif)).size == (4, 2)


def test_a_file_is_the_same_in_one_call_and_through_a_buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    records = [
        saved(tmp_path / name, Image.fromarray(noise)) for name in ("a.jpg", "a.png", "a.gif", "a.tif", "a.webp")
    ]
    at_once = [np.asarray(read_image(record)) for record in records]
    monkeypatch.setattr(images, "AT_ONCE", 0)
    for record, expected in zip(records, at_once, strict=True):
        assert np.array_equal(np.asarray(read_image(record)), expected)


@pytest.mark.parametrize("size", [0, 1, 9_999, 10_000, 10_001, 3_000_000])
def test_all_of_a_file_is_read_however_large_it_was(tmp_path: Path, size: int) -> None:
    content = bytes(range(250)) * 40
    (tmp_path / "a").write_bytes(content)
    assert read_at_once(tmp_path / "a", size) == content


def test_bad_files_are_named_with_the_reason(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    for name, content, reason in [
        ("cut.jpg", whole[: len(whole) // 2], "truncated"),
        ("text.jpg", b"hello", "no image in a known format"),
        ("empty.png", b"", "no image in a known format"),
        ("head.png", b"\x89PNG\r\n\x1a\n\x00\x00", ""),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"cannot read image .*{name}: .*{reason}") as error:
            read_image(Record(name, 0, tmp_path / name))
        assert "replace or remove" in (error.value.hint or "")
    with pytest.raises(InputError, match=r"gone\.jpg: No such file"):
        read_image(Record("gone.jpg", 0, tmp_path / "gone.jpg"))


def test_an_image_in_memory() -> None:
    class Red:
        def load(self) -> Image.Image:
            return Image.new("RGB", (1, 1), (255, 0, 0))

    assert pixel(Record("red", 0, Red())) == (255, 0, 0)

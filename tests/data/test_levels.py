"""Grey levels of every range, and other pixels than 8-bit RGB, against values worked out by hand."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from vlmprompt.data.check import check
from vlmprompt.data.images import read_image
from vlmprompt.data.levels import WARNING
from vlmprompt.data.loader import ImageLoader
from vlmprompt.data.preprocess import PreprocessConfig, build_transform
from vlmprompt.data.records import Record
from vlmprompt.errors import InputError
from vlmprompt.progress import SilentProgress


def saved(path: Path, image: Image.Image, **options: object) -> Record:
    image.save(path, **options)
    return Record(path.name, 0, path)


def grey(record: Record) -> np.ndarray:
    """The levels of a picture that must come out grey."""
    pixels = np.asarray(read_image(record))
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def ramp(bits: int) -> Image.Image:
    """256 levels from 0 to the highest of so many bits, each the middle of its step where steps are wider than 1."""
    step = 2**bits // 256
    levels = np.arange(256, dtype=np.uint16) * step + step // 2
    levels[-1] = 2**bits - 1
    return Image.fromarray(levels.reshape(16, 16))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_white_is_the_highest_level_of_the_bits_that_a_picture_uses(tmp_path: Path, bits: int, suffix: str) -> None:
    levels = grey(saved(tmp_path / f"ramp{suffix}", ramp(bits)))
    assert levels.ravel().tolist() == list(range(256))
    assert levels.mean() == 127.5


def test_between_two_depths_the_larger_counts(tmp_path: Path) -> None:
    levels = np.array([[0, 1024, 4095]], dtype=np.uint16)
    assert grey(saved(tmp_path / "a.png", Image.fromarray(levels[:, :2]))).tolist() == [[0, 64]]  # 11 bits, read as 12
    assert grey(saved(tmp_path / "b.png", Image.fromarray(levels))).tolist() == [[0, 64, 255]]


def test_what_a_tiff_says_of_its_range_counts(tmp_path: Path) -> None:
    levels = Image.fromarray(np.array([[0, 500, 1000]], dtype=np.uint16))
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for white, expected in [(65535, [0, 1, 3]), (4095, [0, 31, 62]), (1999, [0, 64, 128]), (999, [0, 125, 250])]:
        tags[281] = white  # MaxSampleValue; the last one is contradicted by the picture: 10 bits hold 1000
        assert grey(saved(tmp_path / f"{white}.tif", levels, tiffinfo=tags)).tolist() == [expected], white


def test_white_is_zero_in_a_16_bit_tiff(tmp_path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0  # PhotometricInterpretation: WhiteIsZero
    levels = Image.fromarray(np.array([[0, 0x8000, 0xFFFF]], dtype=np.uint16))
    path = tmp_path / "inverted.tif"
    levels.save(path, tiffinfo=tags)
    with Image.open(path) as image:
        assert image.tag_v2[262] == 0
    assert grey(Record("inverted", 0, path)).tolist() == [[255, 127, 0]]


def test_what_a_pgm_says_of_its_range_counts(tmp_path: Path) -> None:
    (tmp_path / "dark.pgm").write_bytes(b"P5 3 1 4095\n" + np.array([0, 16, 1024], dtype=">u2").tobytes())
    assert grey(Record("dark", 0, tmp_path / "dark.pgm")).tolist() == [[0, 1, 64]]


def test_the_precision_of_a_jpeg_2000_counts_unless_it_is_the_container_s(tmp_path: Path) -> None:
    """Pillow gives levels of 12 bits as multiples of 16; a file of 16 bits says as little as a PNG."""
    levels = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    guessed = grey(saved(tmp_path / "twelve.jp2", Image.fromarray(levels)))
    assert guessed.tolist() == (levels // 16).tolist()
    stated = grey(saved(tmp_path / "dark.jp2", Image.fromarray(levels // 16 * 16)))
    assert stated.tolist() == (levels // 256).tolist()


def test_floating_point_numbers(tmp_path: Path) -> None:
    for name, levels, expected in [
        ("unit", [0.0, 0.5, 1.0], [0, 128, 255]),
        ("bytes", [0.0, 99.6, 255.0], [0, 100, 255]),
        ("deep", [0.0, 16.0, 4095.0], [0, 1, 255]),
    ]:
        picture = Image.fromarray(np.array([levels], dtype=np.float32))
        picture.save(tmp_path / f"{name}.pnm", format="PPM")  # PFM
        assert grey(Record(name, 0, tmp_path / f"{name}.pnm")).tolist() == [expected], name
        assert grey(saved(tmp_path / f"{name}.tif", picture)).tolist() == [expected], name


def test_levels_without_a_range_are_refused(tmp_path: Path) -> None:
    for name, levels in [
        ("negative", np.array([[-5, 7]], dtype=np.int32)),
        ("large", np.array([[0, 2**20]], dtype=np.int32)),
        ("nan", np.array([[0.5, np.nan]], dtype=np.float32)),
        ("infinite", np.array([[0.5, np.inf]], dtype=np.float32)),
        ("below", np.array([[-0.5, 0.5]], dtype=np.float32)),
        ("above", np.array([[0.0, 65535.7]], dtype=np.float32)),
    ]:
        with pytest.raises(InputError, match=rf"{name}\.tif: its levels go from .*convert it to 8 bits"):
            read_image(saved(tmp_path / f"{name}.tif", Image.fromarray(levels)))


def test_signed_integers_count_where_none_is_negative(tmp_path: Path) -> None:
    signed = TiffImagePlugin.ImageFileDirectory_v2()
    signed[339] = 2  # SampleFormat
    words = Image.fromarray(np.array([[0, 100, 255]], dtype=np.uint16))
    assert grey(saved(tmp_path / "words.tif", words, tiffinfo=signed)).tolist() == [[0, 100, 255]]
    low, high = (Image.new("L", (2, 2), level) for level in (100, 200))
    assert grey(saved(tmp_path / "low.tif", low, tiffinfo=signed)).max() == 100
    with pytest.raises(InputError, match=r"its levels go from -56 to -56"):
        read_image(saved(tmp_path / "high.tif", high, tiffinfo=signed))


def test_16_bit_colours_keep_their_upper_byte_or_are_refused(tmp_path: Path) -> None:
    def tiff(name: str, top: int) -> Record:
        pixels = np.array([0, top // 2, top], dtype="<u2").tobytes()
        return Record(name, 0, write_tiff(tmp_path / f"{name}.tif", 1, 16, pixels, channels=3))

    assert read_image(tiff("full", 0xFFFF)).getpixel((0, 0)) == (0, 127, 255)
    with pytest.raises(InputError, match=r"twelve\.tif: its colours use 12 of 16 bits or fewer"):
        read_image(tiff("twelve", 4095))


def test_a_tiff_of_12_bits(tmp_path: Path) -> None:
    """Two levels in three bytes: 0x010, 0x400."""
    path = write_tiff(tmp_path / "dark.tif", 2, 12, b"\x01\x04\x00")
    assert grey(Record("dark", 0, path)).tolist() == [[1, 64]]


def write_tiff(path: Path, width: int, bits: int, data: bytes, *, channels: int = 1) -> Path:
    """An uncompressed little-endian TIFF of one line, of kinds that Pillow reads but does not write."""
    depth = [
        (258, 3, channels, 8 if channels > 1 else bits)
    ]  # BitsPerSample, its values at offset 8 if there are three
    entries = [(256, 3, 1, width), (257, 3, 1, 1), *depth, (259, 3, 1, 1), (262, 3, 1, 2 if channels > 1 else 1)]
    entries += [(273, 4, 1, 14), (277, 3, 1, channels), (278, 3, 1, 1), (279, 4, 1, len(data))]
    directory = len(entries).to_bytes(2, "little") + b"".join(
        tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + n.to_bytes(4, "little") + value.to_bytes(4, "little")
        for tag, kind, n, value in entries
    )
    start = (14 + len(data)).to_bytes(4, "little")
    path.write_bytes(b"II*\0" + start + 3 * bits.to_bytes(2, "little") + data + directory + bytes(4))
    return path


def test_lab_is_converted(tmp_path: Path) -> None:
    lab = Image.merge("LAB", [Image.new("L", (2, 2), level) for level in (128, 128, 128)])  # L* 50.2, a* = b* = 0
    assert read_image(saved(tmp_path / "lab.tif", lab)).getpixel((0, 0)) == (119, 119, 119)


def test_a_guessed_range_is_told_once(tmp_path: Path) -> None:
    records = [saved(tmp_path / f"{i}.png", ramp(12)) for i in range(4)]
    loader = ImageLoader(records, build_transform(PreprocessConfig(8, (0, 0, 0), (1, 1, 1)), train=False), 1)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        list(loader)
        list(loader)
    assert [str(warning.message) for warning in told] == [WARNING]


def test_a_range_that_is_stated_or_full_is_not_worth_a_word(tmp_path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[281] = 4095
    records = [saved(tmp_path / "a.png", ramp(16)), saved(tmp_path / "b.tif", ramp(12), tiffinfo=tags)]
    loader = ImageLoader(records, build_transform(PreprocessConfig(8, (0, 0, 0), (1, 1, 1)), train=False), 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(loader)


def test_data_check_counts_guessed_ranges(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "photos" / "test" / name).mkdir(parents=True)
        saved(tmp_path / "photos" / "test" / name / "deep.png", ramp(12))
        saved(tmp_path / "photos" / "test" / name / "plain.png", Image.new("L", (4, 4), 9))
    report = check(f"folder:{tmp_path / 'photos'}", None, SilentProgress())
    assert report.notes[-1] == f"{WARNING} (2 of 4 images)"
    assert report.status == "ok"

"""Pixels that are kept from pass to pass: the same batches, decoded once."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vlmprompt.data import decoding, remembered
from vlmprompt.data.loader import Batch, ImageLoader, ImageReader, in_batches
from vlmprompt.data.preprocess import PreprocessConfig, TowerTransform, build_transform
from vlmprompt.data.records import Record
from vlmprompt.data.remembered import Pixels, Remembered
from vlmprompt.errors import InputError

CONFIG = PreprocessConfig(8, (0.4, 0.5, 0.6), (0.5, 0.4, 0.3))
PLAIN, RANDOM = build_transform(CONFIG, train=False), build_transform(CONFIG, train=True)
N = 12
BYTES = 3 * 8 * 8  # of an image


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    noise = np.random.default_rng(0)
    for i in range(N):
        Image.fromarray(noise.integers(0, 255, (12, 10, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    return [Record(f"{i}.png", i % 5, tmp_path / f"{i}.png") for i in range(N)]


@pytest.fixture(autouse=True)
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the images that are decoded in this process, in order; no pixels are left from elsewhere."""
    monkeypatch.setattr(remembered, "PIXELS", Pixels())
    found: list[str] = []
    read = decoding.read_image

    def watched(record: Record) -> Any:
        found.append(record.id)
        return read(record)

    monkeypatch.setattr(decoding, "read_image", watched)
    return found


def same(one: Iterator[Batch] | ImageLoader, other: Iterator[Batch]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return bool(pairs) and all(
        torch.equal(a.images_B3HW, b.images_B3HW)
        and torch.equal(a.labels_B, b.labels_B)
        and torch.equal(a.index_B, b.index_B)
        for a, b in pairs
    )


def test_passes_give_what_a_loader_gives_and_decode_once(records: list[Record], decoded: list[str]) -> None:
    reader = ImageReader(records, PLAIN, repeated=True)
    order = [3, 1, 2, 3, 3, 0, 7]  # some come again
    assert same(ImageLoader(records, PLAIN, 2, order=order), reader.read(in_batches(order, None, None, 2)))
    assert len(decoded) == len(order) + len(set(order))
    del decoded[:]
    assert len(list(reader.read(in_batches(order[::-1], None, None, 3)))) == 3 and decoded == []
    list(reader.read(in_batches(range(N), None, None, 5)))
    assert sorted(decoded) == sorted(f"{i}.png" for i in set(range(N)) - set(order))


def test_all_that_is_kept_is_read_before_the_first_step(records: list[Record], decoded: list[str]) -> None:
    """On a CPU, whose cores the step needs."""
    for transform, count in ((PLAIN, 6), (RANDOM, 2)):
        del decoded[:]
        batches = ImageReader(records, transform, repeated=True).read(in_batches(range(6), None, (1, 0), 2))
        next(batches)
        assert decoded == [record.id for record in records[:count]]


def test_another_reader_of_the_process_finds_them(records: list[Record], decoded: list[str]) -> None:
    whole = in_batches(range(N), None, None, 5)
    list(ImageReader(records, PLAIN, repeated=True).read(whole))
    other = build_transform(PreprocessConfig(8, (0, 0, 0), (1, 1, 1)), train=False)
    for transform, count in ((PLAIN, N), (other, 2 * N)):
        list(ImageReader(records[::-1], transform, repeated=True).read(whole))
        assert len(decoded) == count


def test_a_file_that_changed_is_read_again(records: list[Record], decoded: list[str], tmp_path: Path) -> None:
    reader, whole = ImageReader(records, PLAIN, repeated=True), in_batches(range(N), None, None, N)
    (first,) = reader.read(whole)
    path = tmp_path / "4.png"
    Image.new("RGB", (12, 10), "white").save(path)
    os.utime(path, ns=(5, 5))
    (again,) = reader.read(whole)
    assert decoded[N:] == ["4.png"]
    differ = [i for i in range(N) if not torch.equal(first.images_B3HW[i], again.images_B3HW[i])]
    assert differ == [4]


def test_random_views_and_too_many_images_are_not_kept(records: list[Record]) -> None:
    limit = Pixels(N * BYTES)
    assert Remembered.of(records, PLAIN, 1, limit) is not None
    assert Remembered.of(records, RANDOM, 1, limit) is None
    assert Remembered.of(records, PLAIN, 2, limit) is None
    assert Remembered.of([*records, records[0]], PLAIN, 1, limit) is None
    assert Remembered.of(records, lambda image: torch.zeros(3, 8, 8), 1, limit) is None


def test_a_process_keeps_no_more_than_its_limit() -> None:
    pixels = Pixels(2 * BYTES)
    images = [torch.full((3, 8, 8), i, dtype=torch.uint8) for i in range(3)]
    for i in (0, 1, 1, 2):
        pixels.put(i, images[i])
    assert pixels.get(0) is None and pixels.get(1) is images[1] and pixels.get(2) is images[2]


def test_random_views_are_those_of_a_loader_in_every_epoch(records: list[Record]) -> None:
    reader = ImageReader(records, RANDOM, repeated=True)
    again = [0, 0, 1]
    for epoch in range(2):
        theirs = ImageLoader(records, RANDOM, 2, order=[5, 2, 5], again=again, augment_seed=(3, epoch))
        assert same(theirs, reader.read(in_batches([5, 2, 5], again, (3, epoch), 2)))


@pytest.mark.parametrize("transform", [PLAIN, RANDOM])
def test_workers_stay_from_pass_to_pass_while_there_is_something_to_decode(
    records: list[Record], monkeypatch: pytest.MonkeyPatch, decoded: list[str], transform: TowerTransform
) -> None:
    for name in ("IN_PROCESS", "IN_PROCESS_SPAWN"):
        monkeypatch.setattr(decoding, name, 4)
    others = set(multiprocessing.active_children())
    reader = ImageReader(records, transform, workers=2, repeated=True)
    seen: list[set[int | None]] = []
    for epoch in range(3):
        order = list(range(N))[:: 1 if epoch != 1 else -1]
        expected = list(ImageLoader(records, transform, 5, order=order, augment_seed=(1, epoch)))
        del decoded[:]
        batches = reader.read(in_batches(order, None, (1, epoch), 5))
        first = next(batches)
        seen.append({child.pid for child in multiprocessing.active_children() if child not in others})
        assert same(iter(expected), chain([first], batches))
        assert decoded == []  # in this process
    # What is kept has been read before the first batch comes.
    assert len(seen[0]) == (2 if transform.random else 0) and seen[1:] == [seen[0]] * 2
    reader.close()
    assert set(multiprocessing.active_children()) <= others


def test_a_pass_that_was_left_leaves_nothing_to_the_next(
    records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("IN_PROCESS", "IN_PROCESS_SPAWN"):
        monkeypatch.setattr(decoding, name, 4)
    reader = ImageReader(records, RANDOM, workers=2)
    whole = in_batches(range(N), None, (1, 0), 3)
    left = reader.read(whole)
    next(left)
    del left
    assert same(
        ImageLoader(records, RANDOM, 3, augment_seed=(1, 1)), reader.read(in_batches(range(N), None, (1, 1), 3))
    )
    reader.close()


def test_a_bad_image_is_named_and_the_reader_is_as_good_as_new(
    records: list[Record], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("IN_PROCESS", "IN_PROCESS_SPAWN"):
        monkeypatch.setattr(decoding, name, 4)
    path = tmp_path / "7.png"
    good = path.read_bytes()
    path.write_bytes(good[:-60])
    reader, whole = ImageReader(records, PLAIN, workers=2, repeated=True), in_batches(range(N), None, None, 3)
    with pytest.raises(InputError, match=r"cannot read image .*7\.png"):
        list(reader.read(whole))
    path.write_bytes(good)
    assert same(ImageLoader(records, PLAIN, 3), reader.read(whole))
    reader.close()

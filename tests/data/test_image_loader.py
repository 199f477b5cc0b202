"""The device loader: order, workers, randomness, and what breaks."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vlmprompt.data import decoding
from vlmprompt.data.decoding import IN_PROCESS, Decoder
from vlmprompt.data.images import read_image
from vlmprompt.data.loader import Batch, ImageLoader, in_batches, workers_for
from vlmprompt.data.preprocess import PreprocessConfig, TowerTransform, build_transform
from vlmprompt.data.records import Record
from vlmprompt.errors import InputError

N = IN_PROCESS + 6
CONFIG = PreprocessConfig(8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
TEST, TRAIN = build_transform(CONFIG, train=False), build_transform(CONFIG, train=True)


@pytest.fixture(autouse=True)
def _same_on_every_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "IN_PROCESS_SPAWN", IN_PROCESS)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    folder = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0)
    for i in range(N):
        Image.fromarray(noise.integers(0, 255, (12, 10, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return [Record(f"{i}.png", i % 5, folder / f"{i}.png") for i in range(N)]


def by_index(loader: ImageLoader) -> dict[int, Tensor]:
    return {int(i): image for batch in loader for i, image in zip(batch.index_B, batch.images_B3HW, strict=True)}


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_transformed_records_in_order(records: list[Record], workers: int) -> None:
    order = list(reversed(range(N)))
    loader = ImageLoader(records, TEST, 32, workers=workers, order=order)
    batches = list(loader)
    assert [len(b.labels_B) for b in batches] == [32, 32, N - 64] and len(loader) == 3
    assert torch.cat([b.index_B for b in batches]).tolist() == order
    assert torch.cat([b.labels_B for b in batches]).tolist() == [records[i].label for i in order]
    expected = torch.stack([TEST(read_image(records[i])) for i in order])
    assert torch.equal(torch.cat([b.images_B3HW for b in batches]), expected)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("n", "drop_last", "sizes"),
    [(10, False, [4, 4, 2]), (10, True, [4, 4]), (8, True, [4, 4]), (3, True, [3]), (0, True, [])],
)
def test_incomplete_last_batch(records: list[Record], n: int, drop_last: bool, sizes: list[int]) -> None:
    loader = ImageLoader(records[:n], TEST, 4, drop_last=drop_last)
    assert [len(batch.labels_B) for batch in loader] == sizes and len(loader) == len(sizes)


def test_a_view_depends_on_seed_epoch_and_record_alone(records: list[Record]) -> None:
    def views(seed: tuple[int, ...], order: Sequence[int], batch_size: int = 16, workers: int = 0) -> dict[int, Tensor]:
        loader = ImageLoader(records, TRAIN, batch_size, workers=workers, order=order, augment_seed=seed)
        return by_index(loader)

    shuffled = random.Random(3).sample(range(N), N)
    first = views((1, 0), range(N))
    for other in (views((1, 0), shuffled), views((1, 0), shuffled, 7, workers=2), views((1, 0), range(N), workers=1)):
        assert all(torch.equal(other[i], first[i]) for i in range(N))
    for seed in ((1, 1), (2, 0), (0, 1), (10,)):
        other = views(seed, range(20))
        assert sum(torch.equal(other[i], first[i]) for i in range(20)) == 0


def test_every_position_has_a_view_of_its_own(records: list[Record]) -> None:
    views = by_index(ImageLoader([records[0]] * 20, TRAIN, 20, augment_seed=(1, 0)))
    assert len({image.numpy().tobytes() for image in views.values()}) == 20


@pytest.mark.parametrize("workers", [0, 2])
def test_the_callers_random_numbers_are_untouched(records: list[Record], workers: int) -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    for _ in ImageLoader(records, TRAIN, 16, workers=workers, augment_seed=(1, 2)):
        assert torch.equal(torch.get_rng_state(), before[0])
    list(ImageLoader(records, TRAIN, 16, workers=workers))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


def _own_pid(image: Image.Image) -> Tensor:
    return torch.tensor(os.getpid())


def test_few_images_start_no_workers(records: list[Record]) -> None:
    few = by_index(ImageLoader(records[:IN_PROCESS], _own_pid, 16, workers=2))
    assert {int(pid) for pid in few.values()} == {os.getpid()}
    many = {int(pid) for pid in by_index(ImageLoader(records, _own_pid, 16, workers=2)).values()}
    assert len(many) == 2 and os.getpid() not in many


def test_more_images_are_few_where_processes_are_spawned(
    records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: "spawn")
    monkeypatch.setattr(decoding, "IN_PROCESS_SPAWN", N)
    assert {int(pid) for pid in by_index(ImageLoader(records, _own_pid, 16, workers=2)).values()} == {os.getpid()}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_is_one_clean_error(records: list[Record], tmp_path: Path, workers: int) -> None:
    good = records[40].image
    assert isinstance(good, Path)
    bad = tmp_path / "broken.png"
    bad.write_bytes(good.read_bytes()[:-60])
    mixed = [*records[:40], Record("broken.png", 0, bad), *records[40:]]
    loader = ImageLoader(mixed, TEST, 16, workers=workers)
    seen = []
    with pytest.raises(InputError, match=r"cannot read image .*broken\.png: ") as error:
        seen.extend(batch.index_B for batch in loader)
    assert error.value.hint == "replace or remove it" and "Traceback" not in error.value.message
    assert torch.cat(seen).tolist() == list(range(32))
    del error
    assert not multiprocessing.active_children()
    bad.write_bytes(good.read_bytes())
    assert len(by_index(loader)) == N + 1  # the loader is as good as new


def _in_worker(action: Callable[[], None]) -> None:
    if multiprocessing.parent_process() is not None:
        action()


def _interrupted(image: Image.Image) -> Tensor:
    _in_worker(lambda: os.kill(os.getpid(), signal.SIGINT))
    return TEST(image)


def _faulty(image: Image.Image) -> Tensor:
    raise RuntimeError("a bug in a transform")


def test_ctrl_c_is_left_to_the_main_process(records: list[Record]) -> None:
    assert len(by_index(ImageLoader(records, _interrupted, 16, workers=2))) == N


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bug_stays_a_bug(records: list[Record], workers: int) -> None:
    with pytest.raises(RuntimeError, match="a bug in a transform"):
        list(ImageLoader(records, _faulty, 16, workers=workers))


def test_leaving_in_the_middle_ends_the_workers(records: list[Record]) -> None:
    others = set(multiprocessing.active_children())
    batches = iter(ImageLoader(records, TEST, 8, workers=2))
    next(batches)
    assert len(set(multiprocessing.active_children()) - others) == 2
    del batches
    assert set(multiprocessing.active_children()) <= others


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_on_cuda_equal_those_on_the_cpu(records: list[Record], workers: int) -> None:
    plain = ImageLoader(records, TRAIN, 16, augment_seed=(1,))
    on_device = ImageLoader(records, TRAIN, 16, device="cuda", workers=workers, augment_seed=(1,))
    state = torch.cuda.get_rng_state()
    count = 0
    for a, b in zip(plain, on_device, strict=True):
        assert b.images_B3HW.is_cuda and b.labels_B.is_cuda and not b.index_B.is_cuda
        assert torch.equal(a.labels_B, b.labels_B.cpu())
        torch.testing.assert_close(b.images_B3HW.cpu(), a.images_B3HW, rtol=0, atol=1e-6)  # normalised there
        count += 1
    assert count == len(plain) and torch.equal(torch.cuda.get_rng_state(), state)


@pytest.mark.parametrize(
    ("device", "cores", "cards", "expected"),
    [("cpu", 64, 0, 2), ("cuda", 16, 1, 8), ("cuda", 6, 1, 5), ("cuda", 16, 4, 3), ("cuda", 2, 1, 2), ("mps", 8, 0, 7)],
)
def test_workers_follow_the_cores_beside_a_device(
    monkeypatch: pytest.MonkeyPatch, device: str, cores: int, cards: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    assert workers_for(torch.device(device)) == expected


@pytest.mark.parametrize("transform", [TEST, TRAIN])
def test_eight_bits_on_the_way_make_the_same_batches(records: list[Record], transform: TowerTransform) -> None:
    """As on the way to a device: pixels of a batch, normalised where they arrive."""
    places = in_batches(range(10), None, (1, 0), 4)
    decoder = Decoder(records, transform, views=1, workers=0, pin=False, normalise=None)
    plain = ImageLoader(records, transform, 4, order=range(10), augment_seed=(1, 0))
    for (pixels, labels, index), batch in zip(decoder.read(places), plain, strict=True):
        assert pixels.dtype == torch.uint8 and pixels.shape == batch.images_B3HW.shape
        arrived = Batch(pixels, labels, index).to(torch.device("cpu"), transform.normalise)
        assert torch.equal(arrived.images_B3HW, batch.images_B3HW) and torch.equal(arrived.labels_B, batch.labels_B)

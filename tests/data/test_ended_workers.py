"""Workers that are killed: what is said, and when; and how many there are in passes of several lengths."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from vlmprompt.data import decoding
from vlmprompt.data.decoding import IN_PROCESS
from vlmprompt.data.loader import ImageLoader, ImageReader, in_batches
from vlmprompt.data.preprocess import PreprocessConfig, build_transform
from vlmprompt.data.records import Record
from vlmprompt.errors import InputError

N = IN_PROCESS + 6
TEST = build_transform(PreprocessConfig(8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), train=False)


@pytest.fixture(autouse=True)
def _same_on_every_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "IN_PROCESS_SPAWN", IN_PROCESS)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """One picture, many times."""
    file = tmp_path_factory.mktemp("images") / "one.png"
    Image.fromarray(np.zeros((12, 10, 3), dtype=np.uint8)).save(file)
    return [Record(f"{i}.png", 0, file) for i in range(N)]


def _killed(image: Image.Image) -> Tensor:
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return TEST(image)


@pytest.fixture
def attentive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for a batch looks after the workers all the time, and not every five seconds."""
    from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.05,))


@pytest.mark.usefixtures("attentive")
def test_a_killed_worker_is_explained(records: list[Record]) -> None:
    with pytest.raises(InputError, match=r"image-decoding process ended: .*pid") as error:
        list(ImageLoader(records, _killed, 16, workers=1))
    assert "--workers 0" in (error.value.hint or "")


@pytest.mark.usefixtures("attentive")
@pytest.mark.parametrize("between", [False, True])
def test_a_killed_worker_disturbs_nobody_who_does_something_else(records: list[Record], between: bool) -> None:
    """In a pass or between two of them: the next batch that is waited for says so, and the next pass has workers."""
    reader, batches = ImageReader(records, TEST, workers=1), in_batches(range(N), None, None, 4)
    images = reader.read(batches)
    next(images)
    if between:
        list(images)
        images = reader.read(batches)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid or 0, signal.SIGKILL)
    worker.join()  # where torch's handler would raise
    with pytest.raises(InputError, match="image-decoding process ended: "):
        list(images)
    assert len(list(reader.read(batches))) == len(batches)
    reader.close()


def test_a_short_pass_does_not_settle_the_number_of_workers(records: list[Record]) -> None:
    """Such as the rest of an epoch that a run is resumed in."""
    reader = ImageReader(records, TEST, workers=2)
    for size, workers in ((N, 1), (32, 2), (N, 2)):
        assert sum(len(batch.labels_B) for batch in reader.read(in_batches(range(N), None, None, size))) == N
        assert len(multiprocessing.active_children()) == workers
    reader.close()


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_a_connection_that_breaks_is_a_killed_worker(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that dies while a batch is taken over from it; in a worker's own words it is an error of what it ran."""

    def broken(_: object) -> None:
        raise error

    monkeypatch.setattr(decoding, "_started", broken)
    said = str(error) or "EOFError"
    with pytest.raises(InputError, match=f"image-decoding process ended: {re.escape(said)}"):
        list(ImageLoader([], TEST, 16))
    error = type(error)("Caught it in DataLoader worker process 0.")
    with pytest.raises(type(error)):
        list(ImageLoader([], TEST, 16))

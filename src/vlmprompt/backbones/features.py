"""Image features computed once: for methods whose image tower is frozen, an epoch is then a walk over tensors.

Either one deterministic view of each image (exact), or V recorded random views. They are kept in a store on disk that
all commands share (see `store`), and read from there; where there is none, or it has no room, they are kept in memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

import torch

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.cached import CachedFeatures as CachedFeatures
from vlmprompt.backbones.extraction import Extraction, is_keyed
from vlmprompt.backbones.extraction import FeatureReader as FeatureReader
from vlmprompt.backbones.extraction import PlainReader as PlainReader
from vlmprompt.backbones.extraction import feature_bytes as feature_bytes
from vlmprompt.backbones.outliving import outliving
from vlmprompt.backbones.store.keys import nameless
from vlmprompt.backbones.store.place import GB, Store
from vlmprompt.backbones.store.work import StoreWork
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.config.models import Runtime
from vlmprompt.data.records import Record
from vlmprompt.errors import InputError
from vlmprompt.progress import Progress, SilentProgress, Task, duration
from vlmprompt.shown import size

# Below this size features stay on the device that computed them; above, in main memory.
ON_DEVICE_BYTES = 4 * 2**30
# From here on what is computed is large: how long it will take is said as well, after the first batch.
LARGE_BYTES, LARGE_ROWS = GB, 10_000


def extract(
    method: FeatureReader,
    records: Sequence[Record],
    *,
    backbone: Backbone,
    runtime: Runtime,
    views: int = 1,
    seed: int = 0,
    batch_size: int = 100,
    progress: Progress | None = None,
    description: str = "image features",
    labelled: bool = True,
) -> CachedFeatures:
    """Features of records as a method needs them.

    Any number of processes may ask for the same: each computes what no other one is computing, and reads the rest.

    Args:
        views: 1 = the deterministic test view; V > 1 = V random training views, recorded by `seed`.
        batch_size: images a step of the tower.
        labelled: tell the method the labels; off where the records have none (-1).

    Raises:
        InputError: the method needs gradients through the tower, or an image cannot be read.
    """
    work = Extraction((method,), records, backbone, runtime, views, seed, batch_size, labelled)
    return carry_out(work, progress or SilentProgress(), description)[0]


def extract_each(
    readers: Sequence[FeatureReader],
    records: Sequence[Record],
    *,
    backbone: Backbone,
    runtime: Runtime,
    batch_size: int = 100,
    progress: Progress | None = None,
    description: str = "image features",
) -> list[CachedFeatures]:
    """Features of the test view of records as each of several readers needs them, of one pass through the tower.

    To the bit what `extract` gives for each.

    Raises:
        InputError: see `extract`.
    """
    work = Extraction(tuple(readers), records, backbone, runtime, 1, 0, batch_size, True)
    return carry_out(work, progress or SilentProgress(), description)


@outliving()
def carry_out(work: Extraction, progress: Progress, description: str) -> list[CachedFeatures]:
    """The features of each reader. Raises: InputError, see `extract`."""
    if any(reader.image_needs().grad for reader in work.readers):
        raise InputError("this method trains through the image tower, its features cannot be cached")
    with closing(work):
        return _carried_out(work, progress, description)


def _carried_out(work: Extraction, progress: Progress, description: str) -> list[CachedFeatures]:
    store = _store(work, progress)
    if store is None:
        with _watched(work, progress, description, work.rows, "") as task:
            return _in_memory(work, task)
    stored = StoreWork(work, store, progress)
    missing = stored.missing_rows
    if not missing:
        progress.message(f"features of {_what(work)} are read from {store.folder}")
        return _at_home(work, stored.features())
    kept = f", kept in {store.folder}" if stored.writes else f", kept in memory: {store.words}"
    if missing < work.rows:
        kept = f", {work.rows - missing:,} of {work.rows:,} are there{kept}"
    with _watched(work, progress, description, missing, kept) as task:
        stored.carry_out(task)
    return _at_home(work, stored.features())


def fits_store(work: Extraction, progress: Progress) -> bool:
    """Whether the features are in the store, or may be."""
    store = _store(work, SilentProgress())
    return store is not None and StoreWork(work, store, progress).writes


def _store(work: Extraction, progress: Progress) -> Store | None:
    """The store, unless there is none, or it could not be told later what was computed of which image."""
    store = Store.of(work.runtime)
    if store is None or not all(map(is_keyed, work.readers)):
        return None
    unknown = nameless(work.records)
    if unknown is None:
        return store
    if store.asked:
        progress.warn(
            f"features are not kept on disk: image {unknown.id} is no file, and its {type(unknown.image).__name__} has "
            "no key that says which image it is"
        )
    return None


def _in_memory(work: Extraction, task: Task) -> list[CachedFeatures]:
    """Computed now, on the device where they are small enough together."""
    home = work.backbone.device if work.bytes <= ON_DEVICE_BYTES else torch.device("cpu")
    parts: list[list[ImageFeatures]] = []
    for part in work.whole:
        for found in work.batches(part, work.hosts, home):
            parts.append(found)
            task.advance(len(found[0]))
    whole = [ImageFeatures.cat(features).tensors() for features in zip(*parts, strict=True)]
    labels = work.labels.to(home)

    def own(number: int) -> ImageFeatures:
        host = work.hosts.index(work.host_of[number])
        return ImageFeatures.from_tensors(work.narrowed(whole[host], number))

    return [CachedFeatures(own(number), labels, work.views) for number in range(len(work.readers))]


def _at_home(work: Extraction, found: list[CachedFeatures]) -> list[CachedFeatures]:
    """On a device of its own if they are small enough; in main memory they are read as they are asked for.

    What a reader adds of its own is read now: it may have changed when somebody finds it damaged.
    """
    device = work.backbone.device
    if device.type != "cpu" and work.bytes <= ON_DEVICE_BYTES:
        return [CachedFeatures(f.features.to(device), f.labels.to(device), f.views, f.source) for f in found]
    for reader, features in zip(work.readers, found, strict=True):
        if reader.feature_key():
            features.features  # noqa: B018
    return found


@contextmanager
def _watched(work: Extraction, progress: Progress, description: str, rows: int, kept: str) -> Iterator[Task]:
    """A task for computing some rows; their size is said first, and the time of many once it can be told."""
    total = work.bytes * rows / work.rows * work.stored_share
    progress.message(f"computing features of {_what(work)}: {size(total)}{kept}")
    with progress.task(description, rows, unit="img") as task:
        large = total >= LARGE_BYTES or rows >= LARGE_ROWS
        yield _Outlook(task, rows, progress) if large else task


def _what(work: Extraction) -> str:
    kind = "1 deterministic view" if work.views == 1 else f"{work.views} random views"
    return f"{len(work.records)} images, {kind}"


class _Outlook:
    """A task that says after its first batch how long it will take."""

    def __init__(self, task: Task, rows: int, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self._task, self._rows, self._progress, self._clock = task, rows, progress, clock
        self._start: float | None = clock()

    def advance(self, amount: int = 1, **fields: float | str) -> None:
        """See `Task.advance`."""
        self._task.advance(amount, **fields)
        if self._start is not None and amount < self._rows:
            seconds = (self._clock() - self._start) * self._rows / amount
            self._progress.message(f"about {duration(seconds)} for {self._rows:,} rows, by the first batch of {amount}")
        self._start = None

"""From records to batches on the device: decoded in workers, copied one batch ahead.

Shapes: B images, V views of an image, 3 colours, H x W pixels.
"""

from __future__ import annotations

import multiprocessing
import signal
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, default_collate
from torch.utils.data import Dataset as TorchDataset

from vlmprompt.data.images import read_image
from vlmprompt.data.levels import GUESSED, WARNING
from vlmprompt.data.preprocess import Transform
from vlmprompt.data.records import Record
from vlmprompt.data.views import Views, mixed_seed
from vlmprompt.errors import InputError

# Up to so many images, starting workers costs about what they save; spawned ones first import torch, for seconds.
IN_PROCESS = 64
IN_PROCESS_SPAWN = 4096


@dataclass(frozen=True)
class Batch:
    """Images with their labels.

    Attributes:
        images_B3HW: transformed images, on the loader's device; (B,V,3,H,W) where it gives several views.
        labels_B: int64, on the device.
        index_B: int64, positions in the loader's records, on the CPU.
    """

    images_B3HW: Tensor
    labels_B: Tensor
    index_B: Tensor

    def to(self, device: torch.device) -> Batch:
        """Images and labels on a device; for CUDA without waiting for the copy, from pinned memory."""
        ahead = device.type == "cuda"
        images, labels = (t.to(device, non_blocking=ahead) for t in (self.images_B3HW, self.labels_B))
        return Batch(images, labels, self.index_B)


class ImageLoader:
    """One pass over records in a given order; may be iterated again, with the same result.

    The result does not depend on `workers`. Random transforms see torch's global generator seeded from
    (`augment_seed`, position of the record, `again` where it is not 0), and it is restored: the view of an image is
    a pure function of these, and the caller's random numbers are not touched. Workers live as long as one pass, so
    few images are decoded in the main process: up to 64, or 4096 where processes are spawned (macOS, Windows). So are
    images that their source keeps (`ImageSource.kept`).

    Args:
        records: all that `order` may point to.
        transform: image -> (3,H,W), picklable where processes are spawned; or several views, which hang on their own
            seed and the record's id in place of `augment_seed`, the position and `again`.
        device: where batches arrive; on CUDA through pinned memory and one batch ahead.
        workers: decoding processes; 0 = decode in the main process.
        order: positions in `records`, each pass in this order; default: all, as they are.
        again: of each place in `order`, how often its record came before; 0 for all by default.
        augment_seed: such as (seed, epoch).
        views: of each image, decoded once; with more than one a batch is (B,V,3,H,W), view 0 being that of `views=1`.
        drop_last: leave out an incomplete last batch, unless it is the only one (Dassl's rule).

    Warns (while iterating): what was doubtful in decoding, once a process.

    Raises (while iterating):
        InputError: an image cannot be read, which is named; or a worker was killed.
    """

    def __init__(
        self,
        records: Sequence[Record],
        transform: Transform | Views,
        batch_size: int,
        *,
        device: torch.device | str = "cpu",
        workers: int = 0,
        order: Sequence[int] | None = None,
        again: Sequence[int] | None = None,
        augment_seed: tuple[int, ...] | None = None,
        views: int = 1,
        drop_last: bool = False,
    ) -> None:
        indices = list(range(len(records)) if order is None else order)
        places = list(zip(indices, again or [0] * len(indices), strict=True))
        self._device = torch.device(device)
        self._batches = [places[i : i + batch_size] for i in range(0, len(places), batch_size)]
        if drop_last and len(self._batches) > 1 and len(self._batches[-1]) < batch_size:
            self._batches.pop()
        self._images = _Images(records, transform, augment_seed or (), views)
        # Workers end with the pass, and with them what they have kept; the next pass would read it all again.
        here = len(indices) <= _in_process() or all(getattr(record.image, "kept", False) for record in records)
        self._workers = 0 if here else min(workers, len(self._batches))

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        batches = self._decoded()
        if self._device.type == "cuda":
            return _one_ahead(batches, self._device)
        return (batch.to(self._device) for batch in batches)

    def _decoded(self) -> Iterator[Batch]:
        """Batches in main memory."""
        loader: DataLoader[Any] = DataLoader(
            self._images,
            batch_sampler=self._batches,
            num_workers=self._workers,
            collate_fn=_collate,
            pin_memory=self._device.type == "cuda",
            worker_init_fn=_ignore_interrupt,
            generator=torch.Generator(),  # else the loader draws its base seed from the global one
        )
        try:
            for content in loader:
                if isinstance(content, _Failure):
                    raise InputError(content.message, hint=content.hint)
                *batch, guessed = content
                if guessed.any():
                    warnings.warn(WARNING, stacklevel=2)
                yield Batch(*batch)
        except RuntimeError as error:
            if "DataLoader worker (pid" not in str(error):  # an error within a worker names no pid
                raise
            raise InputError(
                f"an image-decoding process ended: {str(error).splitlines()[0]}",
                hint="memory may be short, or /dev/shm too small: use fewer workers, or --workers 0",
            ) from error


# Image, label, position, and whether its range was guessed.
_Item = tuple[Tensor, int, int, bool]


@dataclass(frozen=True)
class _Failure:
    """An unreadable image on its way to the main process, which raises it as one clean error."""

    message: str
    hint: str | None


class _Images(TorchDataset[Any]):
    """Decodes and transforms; lives in the workers."""

    def __init__(
        self, records: Sequence[Record], transform: Transform | Views, seed: tuple[int, ...], views: int = 1
    ) -> None:
        self._records = records
        self._transform = transform
        self._seed = seed
        self._views = views

    def __getitem__(self, place: tuple[int, int]) -> _Item | _Failure:
        index, again = place
        record = self._records[index]
        try:
            image = read_image(record)
        except InputError as error:
            return _Failure(error.message, error.hint)
        if isinstance(self._transform, Views):
            return self._transform(image, record.id), record.label, index, GUESSED in image.info
        transform = self._transform
        views = [self._view(transform, image, view, index, again) for view in range(self._views)]
        pixels = views[0] if self._views == 1 else torch.stack(views)
        return pixels, record.label, index, GUESSED in image.info

    def _view(self, transform: Transform, image: Image.Image, view: int, index: int, again: int) -> Tensor:
        """One view of an image; further ones have seeds that no position can give, as theirs holds a number below 0."""
        seed = (*self._seed, -view) if view else self._seed
        parts = (*seed, index, again) if again else (*seed, index)
        with torch.random.fork_rng(devices=[]):
            # The CPU generator alone: torch.manual_seed would also seed CUDA's, which is not restored.
            torch.default_generator.manual_seed(mixed_seed(*parts))
            return transform(image)


def _in_process() -> int:
    """The number of images that are not worth starting workers for."""
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    return IN_PROCESS if method == "fork" else IN_PROCESS_SPAWN


def _collate(items: list[_Item | _Failure]) -> list[Tensor] | _Failure:
    """Tensors of a batch (in a worker: in shared memory), or its first failure."""
    failures = [item for item in items if isinstance(item, _Failure)]
    if failures:
        return failures[0]
    batch: list[Tensor] = default_collate(items)
    return batch


def _ignore_interrupt(worker: int) -> None:
    """Ctrl-C and the end of a terminal reach the whole process group; the main process decides what they mean."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _one_ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Copy the next batch on a stream of its own while CUDA works on the current one."""
    stream = torch.cuda.Stream(device)
    waiting: tuple[Batch, torch.cuda.Event] | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            following = batch.to(device), stream.record_event()
        if waiting is not None:
            yield _arrived(*waiting)
        waiting = following
    if waiting is not None:
        yield _arrived(*waiting)


def _arrived(batch: Batch, copied: torch.cuda.Event) -> Batch:
    """Let the consumer's stream wait for the copy, and keep the memory until that stream is done with it."""
    consumer = torch.cuda.current_stream(batch.images_B3HW.device)
    consumer.wait_event(copied)
    for tensor in (batch.images_B3HW, batch.labels_B):
        tensor.record_stream(consumer)
    return batch

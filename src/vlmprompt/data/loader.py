"""From records to batches on the device: decoded in workers, copied one batch ahead.

Shapes: B images, V views of an image, 3 colours, H x W pixels.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlmprompt.config.limits import WORKERS
from vlmprompt.data.crops import Normalise
from vlmprompt.data.decoding import Decoder, Place
from vlmprompt.data.preprocess import TowerTransform, Transform
from vlmprompt.data.records import Record
from vlmprompt.data.remembered import Remembered
from vlmprompt.data.views import Views

MOST_BY_CORES = 8


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

    def to(self, device: torch.device, normalise: Normalise | None = None) -> Batch:
        """Images and labels on a device; for CUDA without waiting for the copy, from pinned memory.

        Args:
            normalise: of 8-bit pixels, which are a quarter of the size, once they are there.
        """
        ahead = device.type == "cuda"
        images, labels = (t.to(device, non_blocking=ahead) for t in (self.images_B3HW, self.labels_B))
        return Batch(images if normalise is None else normalise(images), labels, self.index_B)


class ImageReader:
    """Reads records in any number of passes, by processes that stay from pass to pass.

    What a pass gives does not depend on `workers`. Random transforms see torch's global generator seeded from the
    pass's seed, the position of the record, and how often it came before where that is not 0; it is restored: the view
    of an image is a pure function of these, and the caller's random numbers are not touched.

    Few images are decoded in the main process: up to 64, or 4096 where processes are spawned (macOS, Windows).

    Args:
        records: all that passes may point to.
        transform: image -> (3,H,W), picklable where processes are spawned; or several views, which hang on their own
            seed and the record's id in place of those above.
        device: where batches arrive; on CUDA through pinned memory and one batch ahead, 8-bit where the transform is a
            `TowerTransform`, and normalised there.
        workers: decoding processes; 0 = decode in the main process; None: see `workers_for`.
        views: of each image, decoded once; with more than one a batch is (B,V,3,H,W), view 0 being that of `views=1`.
        repeated: the records will be read several times. Those that always look the same are then decoded once and kept
            as 8-bit pixels in main memory, if there are not too many (see `remembered`); on a CPU before a pass's first
            batch.
    """

    def __init__(
        self,
        records: Sequence[Record],
        transform: Transform | Views,
        *,
        device: torch.device | str = "cpu",
        workers: int | None = 0,
        views: int = 1,
        repeated: bool = False,
    ) -> None:
        self._records, self._device = records, torch.device(device)
        self._remembered = Remembered.of(records, transform, views) if repeated else None
        # What a source keeps in the main process would be read again by workers, unless they stay or it is kept here.
        kept = self._remembered is None and all(getattr(record.image, "kept", False) for record in records)
        normalise = transform.normalise if isinstance(transform, TowerTransform) else None
        later = self._device.type == "cuda" or self._remembered is not None
        self._normalise = normalise if later else None
        self._decoder = Decoder(
            records,
            transform,
            views=views,
            workers=0 if kept else workers_for(self._device) if workers is None else workers,
            pin=self._device.type == "cuda" and self._remembered is None,
            normalise=None if later else normalise,
        )

    def read(self, batches: Sequence[Sequence[Place]]) -> Iterator[Batch]:
        """One pass.

        Warns (while iterating): what was doubtful in decoding, once a process.

        Raises (while iterating):
            InputError: an image cannot be read, which is named; or a worker was killed.
        """
        decoded = self._decoder.read if self._remembered is None else self._remembering
        found = (Batch(*tensors) for tensors in decoded(batches))
        if self._device.type == "cuda":
            return _one_ahead(found, self._device, self._normalise)
        return (batch.to(self._device, self._normalise) for batch in found)

    def close(self) -> None:
        """End the workers, if there are any; the next pass would start others."""
        self._decoder.close()

    def _remembering(self, batches: Sequence[Sequence[Place]]) -> Iterator[list[Tensor]]:
        """See `Decoder.read`; images that were read before are not read again."""
        kept, records = self._remembered, self._records
        assert kept is not None
        missing = set(kept.missing([place.position for batch in batches for place in batch]))
        first: list[list[Place]] = []  # of each batch, what no earlier one reads
        for batch in batches:
            new = {place.position: place for place in batch if place.position in missing}
            missing -= new.keys()
            first.append(list(new.values()))
        reading = self._keeping(kept, [places for places in first if places])
        # A step on a CPU takes all cores, and its threads wait for each other: one that shares its core with a worker
        # holds up the others too, which costs several times what the worker does. So reading comes first there.
        if self._device.type == "cpu":
            deque(reading, maxlen=0)
        for batch, new_places in zip(batches, first, strict=True):
            if new_places:
                next(reading, None)
            indices = [place.position for place in batch]
            labels_B = torch.tensor([records[index].label for index in indices])
            images_B3HW = torch.stack([kept[index] for index in indices])
            ready = [images_B3HW, labels_B, torch.tensor(indices)]
            yield [tensor.pin_memory() for tensor in ready] if self._device.type == "cuda" else ready
        deque(reading, maxlen=0)  # nothing is left to read; it ends the workers

    def _keeping(self, kept: Remembered, batches: Sequence[Sequence[Place]]) -> Iterator[None]:
        """Read and keep, batch by batch; the workers end when they have nothing left to do."""
        for images_B3HW, _, index_B in self._decoder.read(batches):
            for index, pixels_3HW in zip(index_B.tolist(), images_B3HW, strict=True):
                kept.put(index, pixels_3HW.clone())  # its own memory: the batch's is shared with a worker
            yield
        if len(kept) == len(self._records):
            self._decoder.close()


class ImageLoader:
    """One pass over records in a given order; may be iterated again, with the same result.

    See `ImageReader`; the workers end with the pass, so images that their source keeps (`ImageSource.kept`) are read
    in the main process.

    Args:
        records, transform, device, workers, views: see `ImageReader`.
        order: positions in `records`, each pass in this order; default: all, as they are.
        again: of each place in `order`, how often its record came before; 0 for all by default.
        augment_seed: such as (seed, epoch).
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
        workers: int | None = 0,
        order: Sequence[int] | None = None,
        again: Sequence[int] | None = None,
        augment_seed: tuple[int, ...] | None = None,
        views: int = 1,
        drop_last: bool = False,
    ) -> None:
        order = range(len(records)) if order is None else order
        self._batches = in_batches(order, again, augment_seed, batch_size)
        if drop_last and len(self._batches) > 1 and len(self._batches[-1]) < batch_size:
            self._batches.pop()
        self._reader = ImageReader(records, transform, device=device, workers=workers, views=views)

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        try:
            yield from self._reader.read(self._batches)
        finally:
            self._reader.close()


def in_batches(
    order: Sequence[int], again: Sequence[int] | None, seed: tuple[int, ...] | None, size: int
) -> list[list[Place]]:
    """The places of a pass, batch by batch; see `ImageLoader`."""
    repeats = [0] * len(order) if again is None else again
    places = [Place(index, time, seed or ()) for index, time in zip(order, repeats, strict=True)]
    return [places[i : i + size] for i in range(0, len(places), size)]


def workers_for(device: torch.device) -> int:
    """How many processes decode images where nobody says: two where towers run on the same cores; beside a GPU one for
    each core but one, up to eight, the cores divided among the GPUs."""
    if device.type == "cpu":
        return WORKERS
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = cores // max(1, torch.cuda.device_count())
    return max(WORKERS, min(share - 1, MOST_BY_CORES))


def _one_ahead(batches: Iterator[Batch], device: torch.device, normalise: Normalise | None) -> Iterator[Batch]:
    """Copy the next batch on a stream of its own while CUDA works on the current one."""
    stream = torch.cuda.Stream(device)
    waiting: tuple[Batch, torch.cuda.Event] | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            following = batch.to(device, normalise), stream.record_event()
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

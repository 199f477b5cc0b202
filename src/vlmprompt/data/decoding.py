"""Images decoded and transformed, batch by batch: in processes of their own, which stay, or in the main one.

Shapes: B images, V views of an image, 3 colours, H x W pixels.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, default_collate
from torch.utils.data import Dataset as TorchDataset

from vlmprompt.data.crops import Normalise
from vlmprompt.data.images import read_image
from vlmprompt.data.levels import GUESSED, WARNING
from vlmprompt.data.preprocess import TowerTransform, Transform
from vlmprompt.data.records import Record
from vlmprompt.data.views import Views, mixed_seed
from vlmprompt.errors import InputError

# Up to so many images, starting workers costs about what they save; spawned ones first import torch, for seconds.
IN_PROCESS = 64
IN_PROCESS_SPAWN = 4096


class Place(NamedTuple):
    """An image's place in a pass.

    Attributes:
        position: of its record.
        again: how often the record came before.
        seed: of random transforms, with the two; nothing else decides what a view shows.
    """

    position: int
    again: int = 0
    seed: tuple[int, ...] = ()


class Decoder:
    """Reads records in any number of passes.

    Args:
        transform: image -> (3,H,W), or several views.
        views: of each image.
        workers: processes, started by the first pass that is worth it and kept until `close`; 0: none.
        pin: give batches in pinned memory.
        normalise: what becomes of the pixels of a `TowerTransform` at once; None: they are given as 8 bits.
    """

    def __init__(
        self,
        records: Sequence[Record],
        transform: Transform | Views,
        *,
        views: int,
        workers: int,
        pin: bool,
        normalise: Normalise | None,
    ) -> None:
        self._images, self._collate = _Images(records, transform, views), _Collate(normalise)
        self._workers, self._pin = workers, pin
        self._plan = _Plan()
        self._loader: DataLoader[Any] | None = None

    def read(self, batches: Sequence[Sequence[Place]]) -> Iterator[list[Tensor]]:
        """Images (B,3,H,W) or (B,V,3,H,W), labels and indices of each batch, in main memory.

        Warns (while iterating):
            what was doubtful in decoding, once a process.

        Raises (while iterating):
            InputError: an image cannot be read, which is named; or a worker was killed.
        """
        if not self._workers or sum(map(len, batches)) <= in_process():
            loader = self._made(_Plan(batches), 0)
        else:
            self._plan.batches, workers = batches, min(self._workers, len(batches))
            if self._loader is None or self._loader.num_workers < workers:  # the last pass may have been a short one
                self._loader = self._made(self._plan, workers)
            loader = self._loader
        try:
            for content in _started(loader):
                if isinstance(content, _Failure):
                    self.close()
                    raise InputError(content.message, hint=content.hint)
                *batch, guessed = content
                if guessed.any():
                    warnings.warn(WARNING, stacklevel=2)
                yield batch
        except (RuntimeError, ConnectionError, EOFError) as error:
            self.close()
            if not _is_end_of_worker(error):
                raise
            said = str(error).partition("\n")[0] or type(error).__name__
            raise InputError(
                f"an image-decoding process ended: {said}",
                hint="memory may be short, or /dev/shm too small: use fewer workers, or --workers 0",
            ) from error

    def close(self) -> None:
        """End the workers; the next pass starts others."""
        self._loader = None

    def _made(self, plan: _Plan, workers: int) -> DataLoader[Any]:
        return DataLoader(
            self._images,
            batch_sampler=plan,
            num_workers=workers,
            collate_fn=self._collate,
            pin_memory=self._pin,
            worker_init_fn=_ignore_interrupt,
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # else the loader draws its base seed from the global one
        )


def _started(loader: DataLoader[Any]) -> Iterator[Any]:
    """A pass of a loader, whose workers' end is noticed where their batches are waited for, some seconds later.

    torch would have it raised by a signal, wherever the main process is at that moment: in a method's step, or while a
    checkpoint is written.
    """
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        return iter(loader)
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        return iter(loader)
    finally:
        signal.signal(signal.SIGCHLD, handler or signal.SIG_DFL)


def _is_end_of_worker(error: Exception) -> bool:
    """Whether an error means that a worker has ended: torch names its pid, or the connection broke while a batch came.

    What is raised within a worker says so, and names no pid.
    """
    broken = isinstance(error, ConnectionError | EOFError) and "DataLoader worker process" not in str(error)
    return broken or "DataLoader worker (pid" in str(error)


def in_process() -> int:
    """The number of images that are not worth starting workers for."""
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    return IN_PROCESS if method == "fork" else IN_PROCESS_SPAWN


class _Plan:
    """The batches of the pass under way; workers that stay are told of the next ones by the same object."""

    def __init__(self, batches: Sequence[Sequence[Place]] = ()) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


# Image, label, position, and whether its range was guessed.
_Item = tuple[Tensor, int, int, bool]


@dataclass(frozen=True)
class _Failure:
    """An unreadable image on its way to the main process, which raises it as one clean error."""

    message: str
    hint: str | None


class _Images(TorchDataset[Any]):
    """Decodes and transforms; lives in the workers."""

    def __init__(self, records: Sequence[Record], transform: Transform | Views, views: int) -> None:
        self._records, self._transform, self._views = records, transform, views
        self._view_of = transform.pixels if isinstance(transform, TowerTransform) else transform

    def __getitem__(self, place: Place) -> _Item | _Failure:
        record = self._records[place.position]
        try:
            image = read_image(record)
        except InputError as error:
            return _Failure(error.message, error.hint)
        if isinstance(self._transform, Views):
            pixels = self._transform(image, record.id)
        else:
            views = [self._view(image, place, view) for view in range(self._views)]
            pixels = views[0] if self._views == 1 else torch.stack(views)
        return pixels, record.label, place.position, GUESSED in image.info

    def _view(self, image: Image.Image, place: Place, view: int) -> Tensor:
        """One view of an image; further ones have seeds that no position can give, as theirs holds a number below 0."""
        make: Any = self._view_of
        if isinstance(self._transform, TowerTransform) and not self._transform.random:
            return make(image)
        seed = (*place.seed, -view) if view else place.seed
        parts = (*seed, place.position, place.again) if place.again else (*seed, place.position)
        with torch.random.fork_rng(devices=[]):
            # The CPU generator alone: torch.manual_seed would also seed CUDA's, which is not restored.
            torch.default_generator.manual_seed(mixed_seed(*parts))
            return make(image)


@dataclass(frozen=True)
class _Collate:
    """Tensors of a batch (in a worker: in shared memory), or its first failure."""

    normalise: Normalise | None

    def __call__(self, items: list[_Item | _Failure]) -> list[Tensor] | _Failure:
        failures = [item for item in items if isinstance(item, _Failure)]
        if failures:
            return failures[0]
        images, *rest = default_collate(items)
        # All of a batch at once takes half as long as one after the other.
        return [images if self.normalise is None else self.normalise(images), *rest]


def _ignore_interrupt(worker: int) -> None:
    """Ctrl-C and the end of a terminal reach the whole process group; the main process decides what they mean."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)

"""The processes of one run, and what passes between them; one process alone passes nothing.

Every process does the same in the same order, so each of these calls is made by all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from vlmprompt.backbones.types import at_least_float
from vlmprompt.errors import InputError, Interrupted
from vlmprompt.parallel.failure import WHOLE, PeerError, Words, peer_error
from vlmprompt.parallel.launched import Launch

CPU = torch.device("cpu")
LISTEN_EVERY = timedelta(seconds=1)  # while waiting for the others


class Group:
    """The processes of a run.

    Attributes:
        rank: of this one; the first writes and speaks.
        size: how many there are.
        local_rank: of this one among those of its machine.
        unheard: this process failed, and the first one does not tell the user why.
    """

    def __init__(self, place: Launch | None = None, store: Any = None) -> None:
        place = place or Launch(0, 1, 0)
        self.rank, self.size, self.local_rank = place.rank, place.size, place.local_rank
        self.unheard = False
        self._words = None if store is None else Words(store, self.rank, self.size)
        self._ended = self._telling = False

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other."""
        return self.size == 1

    def share(self, n: int, rank: int | None = None) -> range:
        """Which of n things are this process's: neighbours, of which the first processes have one more."""
        rank = self.rank if rank is None else rank
        least, more = divmod(n, self.size)
        start = rank * least + min(rank, more)
        return range(start, start + least + (rank < more))

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes of a tensor of one shape."""
        if self.alone:
            return values
        summed = values.clone(memory_format=torch.contiguous_format)
        self._all(lambda: torch.distributed.all_reduce(summed, async_op=True), summed.device)
        return summed

    def rows(self, own: Tensor, n: int) -> Tensor:
        """The rows of all processes, each giving its `share` of n."""
        if self.alone:
            return own
        most = len(self.share(n, 0))
        wire = at_least_float(own)  # gloo does not know every type
        padded = torch.cat([wire, wire.new_zeros(most - len(wire), *wire.shape[1:])]).contiguous()
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        self._all(lambda: torch.distributed.all_gather(parts, padded, async_op=True), padded.device)
        return torch.cat([part[: len(self.share(n, rank))] for rank, part in enumerate(parts)]).to(own.dtype)

    def gather(self, own: bytes) -> list[bytes]:
        """What each process gives, in their order."""
        if self.alone:
            return [own]
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        length = torch.tensor([len(own)])
        self._all(lambda: torch.distributed.all_gather(sizes, length, async_op=True))
        most = max(int(size) for size in sizes)
        padded = torch.frombuffer(bytearray(own.ljust(most, b"\0") or b"\0"), dtype=torch.uint8)
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        self._all(lambda: torch.distributed.all_gather(parts, padded, async_op=True))
        return [part.numpy().tobytes()[: int(size)] for part, size in zip(parts, sizes, strict=True)]

    def from_first(self, content: bytes = b"") -> bytes:
        """What the first process gives; the others' content counts for nothing."""
        return self.gather(content if self.first else b"")[0]

    def require_same(self, what: str, own: str, hint: str) -> None:
        """Refuse to go on with processes that differ.

        Raises:
            InputError: names what, and the process that differs from the first.
        """
        first, *others = self.gather(own.encode())
        for rank, other in enumerate(others, 2):
            if other != first:
                raise InputError(f"process {rank} of {self.size} has other {what} than the first", hint=hint)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Within, an error of one process ends all of them, and the first one knows why."""
        if self._words is None or self._telling:
            yield
            return
        self._telling = True
        self._words.begin()
        try:
            yield
        except Interrupted:  # a stop that all agreed to
            raise
        except BaseException as error:
            found = peer_error(error)
            if found is None and isinstance(error, KeyboardInterrupt):
                found = self._words.left()
            self._end(found or error)
            if found is None or found is error:
                raise
            raise found from None
        finally:
            self._telling = False

    def leave(self) -> None:
        """End in order, once all have come to their end."""
        if not (self.alone or self._ended):
            self.gather(b"")
            self._ended = True
            torch.distributed.destroy_process_group()

    def _end(self, error: BaseException) -> None:
        """Let the others know; those behind the first wait until it does."""
        assert self._words is not None
        broken = isinstance(error, PeerError)
        self._words.leave(error)
        if self.first:
            self._words.heard(broken=broken)
        else:
            heard = self._words.wait_until_heard()
            self.unheard, broken = heard is None, broken or heard != WHOLE
        self._ended = self._ended or broken

    def _all(self, start: Callable[[], Any], device: torch.device = CPU) -> None:
        """Do what all take part in, and, while it waits for them, hear whether one of them has ended."""
        if self._ended:
            raise InputError("the processes of this run have ended", hint="launch them again")
        assert self._words is not None
        try:
            work = start()
            while not _is_done(work, device):
                if found := self._words.left():
                    self._ended = True
                    raise found
        except RuntimeError as error:
            self._ended = True
            raise self._words.of_another() from error


def _is_done(work: Any, device: torch.device) -> bool:
    """Whether it is, after waiting for a while."""
    if device.type != "cpu":
        return _is_done_on_device(work)
    try:
        work.wait(LISTEN_EVERY)
    except RuntimeError:
        if work.is_completed():
            raise
        return False
    return True


def _is_done_on_device(work: Any) -> bool:
    """The same of nccl, for which a wait with a limit fails at it, and one without only orders the device's streams."""
    work.wait()
    until = time.monotonic() + LISTEN_EVERY.total_seconds()
    while not work.is_completed():
        if time.monotonic() > until:
            return False
        time.sleep(0.0005)
    return True


ALONE = Group()

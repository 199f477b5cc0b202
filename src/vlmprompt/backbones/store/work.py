"""Computing what a store lacks: each part by one process, while others compute other parts, and then read all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vlmprompt.backbones.cached import CachedFeatures, Piece, StoredFeatures
from vlmprompt.backbones.extraction import DTYPES, Extraction, Part
from vlmprompt.backbones.store.in_use import Use
from vlmprompt.backbones.store.place import Store
from vlmprompt.backbones.store.plan import Plan, needs_of
from vlmprompt.backbones.store.shard import NoRoomError, Shard, UnfitError
from vlmprompt.backbones.types import GLOBAL, ImageFeatures
from vlmprompt.claims.work import take
from vlmprompt.errors import InputError
from vlmprompt.progress import Progress, Task

CPU = torch.device("cpu")
# Stores that could not be written to, of which this process has told.
_told: set[Path] = set()


class StoreWork:
    """An extraction beside a store.

    Attributes:
        writes: what is computed is kept there; off where it has no room, and from the first time that it cannot be.
        missing_rows: those that were not there at the start.
    """

    def __init__(self, work: Extraction, store: Store, progress: Progress) -> None:
        self._work, self._store, self._progress = work, store, progress
        self._plan = Plan(work, store, progress)
        self._kept: dict[tuple[Part, int], dict[str, Tensor]] = {}
        self._use = Use(store, self._plan.names)  # before it is looked what is there: that must not be pruned any more
        missing = [(part, self._lacking(part)) for part in self._plan.parts]
        self.missing_rows = sum(len(part) for part, numbers in missing if numbers)
        sizes = (len(part) * work.row_bytes(work.readers[n]) for part, numbers in missing for n in numbers)
        self.writes = sum(sizes) * work.stored_share <= store.room

    def carry_out(self, task: Task) -> None:
        """Have everything there, computed by whomever.

        Raises:
            InputError: an image cannot be read.
        """
        left = [part for part in self._plan.parts if self._lacking(part)]
        for _ in take(left, partial(self._settle, task=task), self._progress):
            pass

    def features(self) -> list[CachedFeatures]:
        """Those of each reader."""
        work, source = self._work, "computed" if self.missing_rows else str(self._store.folder)
        found: list[CachedFeatures] = []
        for number, reader in enumerate(work.readers):
            pieces = [self._piece(part, number) for part in self._plan.parts]
            size = work.rows * work.row_bytes(reader)
            found.append(StoredFeatures(pieces, work.labels, work.views, source, size=size, alive=self._use))
        return found

    def _settle(self, part: Part, *, task: Task) -> None:
        """Have a part; raises BusyError where somebody else is computing it."""
        with ExitStack() as stack:
            if self.writes:
                for number in self._lacking(part):
                    stack.enter_context(self._plan.wanted[part, number].own.claimed())
            numbers = self._lacking(part)  # less what was made by whoever had the claim until now
            if not numbers:
                task.advance(len(part))
                return
            self._make(part, numbers, task)

    def _lacking(self, part: Part) -> list[int]:
        return [n for n in self._plan.lacking(part, self._work.hosts) if (part, n) not in self._kept]

    def _make(self, part: Part, numbers: Sequence[int], task: Task) -> None:
        """Compute a part for some readers, in one pass, and keep it."""
        batches: list[list[ImageFeatures]] = []
        for found in self._work.batches(part, numbers, CPU):
            batches.append(found)
            task.advance(len(found[0]))
        for number, parts in zip(numbers, zip(*batches, strict=True), strict=True):
            tensors = ImageFeatures.cat(parts).tensors()
            if not self._written(part, number, tensors):
                self._kept[part, number] = tensors

    def _written(self, part: Part, number: int, tensors: Mapping[str, Tensor]) -> bool:
        """Whether it is in the store now; the first time that it cannot be is told."""
        if not self.writes:
            return False
        shard, dtype = self._plan.wanted[part, number].own, DTYPES[self._work.runtime.feature_dtype]
        stored = {name: (t.to(dtype) if t.is_floating_point() else t).contiguous() for name, t in tensors.items()}
        try:
            shard.write(stored, self._about(part, number), self._store)
            return True
        except NoRoomError:
            reason = self._store.words
        except InputError as error:
            reason = error.message
        self.writes = False
        if self._store.folder not in _told:
            _told.add(self._store.folder)
            self._progress.warn(f"features are not kept on disk: {reason}; the run goes on with them in memory")
        return False

    def _about(self, part: Part, number: int) -> dict[str, object]:
        """What a file holds, for people."""
        work, backbone = self._work, self._work.backbone
        return {
            "tower": backbone.name + ("" if backbone.random_weights is None else f", seed {backbone.random_weights}"),
            "reads": needs_of(work.readers[number]),
            "view": "test" if work.views == 1 else f"random, seed {work.seed}",
            "dtype": work.runtime.feature_dtype,
            "images": len(part),
        }

    def _piece(self, part: Part, number: int) -> Piece:
        host = self._work.host_of[number]
        kept = self._kept.get((part, host))
        if kept is None:
            return Piece(len(part), partial(self._open, part, number, self._plan.found(part, number)))
        own = self._work.narrowed(kept, number)
        return Piece(len(part), partial(_named, own), sum(t.numel() * t.element_size() for t in own.values()))

    def _open(
        self, part: Part, number: int, shard: Shard | None, names: Collection[str] | None
    ) -> Mapping[str, Tensor]:
        """Tensors of a file; where it has gone or is damaged, they are computed anew."""
        own = self._plan.wanted[part, number].own
        try:
            if shard is not None:
                shard.touch()
                return shard.read(names if shard == own else [GLOBAL])
        except UnfitError as error:
            assert shard is not None
            self._plan.refuse(shard, error)
        with self._progress.task("features", len(part), unit="img") as task:
            self._make(part, [number], task)
        self._work.close()
        kept = self._kept.get((part, number))
        return own.read(names) if kept is None else _named(kept, names)


def _named(tensors: Mapping[str, Tensor], names: Collection[str] | None) -> Mapping[str, Tensor]:
    return tensors if names is None else {name: tensors[name] for name in names}

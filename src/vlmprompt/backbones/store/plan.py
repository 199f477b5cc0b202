"""The files of an extraction: which there are, which are to be computed, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vlmprompt.backbones.extraction import Extraction, FeatureReader, Part
from vlmprompt.backbones.store.keys import Keys
from vlmprompt.backbones.store.place import Store
from vlmprompt.backbones.store.shard import Shard, UnfitError
from vlmprompt.progress import Progress

# A file holds so many images, in whole batches: few enough that processes can share a few-shot sample, and that patches
# of a large tower (2.4 MB an image) are written half a GB at a time; whatever is read, or one's file could not serve
# another.
SHARD_ROWS = 256


@dataclass(frozen=True)
class Wanted:
    """What a reader wants of a part.

    Attributes:
        own: where it is kept.
        instead: files that hold the same beside more.
    """

    own: Shard
    instead: tuple[Shard, ...] = ()


class Plan:
    """The files of one extraction.

    Attributes:
        parts: of all views, in order.
        wanted: part, reader -> files.

    Args:
        progress: gets a warning that names what is wrong with a file.
    """

    def __init__(self, work: Extraction, store: Store, progress: Progress) -> None:
        self._progress = progress
        self.parts = list(parts_of(work))
        keys = Keys(work)

        def shard(key: str, part: Part) -> Shard:
            return Shard(store.folder, key, len(part))

        self.wanted: dict[tuple[Part, int], Wanted] = {
            (part, number): Wanted(
                shard(keys.of(reader, part), part), tuple(shard(key, part) for key in keys.holding(reader, part))
            )
            for part in self.parts
            for number, reader in enumerate(work.readers)
        }

    @property
    def names(self) -> set[str]:
        """Of all files that may be read."""
        return {shard.path.name for wanted in self.wanted.values() for shard in (wanted.own, *wanted.instead)}

    def found(self, part: Part, number: int) -> Shard | None:
        """A file that holds what a reader wants of a part; None where there is none that can be used."""
        wanted = self.wanted[part, number]
        return next((shard for shard in (wanted.own, *wanted.instead) if self._is_fit(shard)), None)

    def lacking(self, part: Part, numbers: Sequence[int]) -> list[int]:
        """Those of some readers for whom there is no file of a part."""
        return [number for number in numbers if self.found(part, number) is None]

    def refuse(self, shard: Shard, error: UnfitError) -> None:
        """Move a file aside that cannot be used, and say so."""
        self._progress.warn(f"stored features {shard.path} {error}: {shard.move_aside()}; they are computed anew")

    def _is_fit(self, shard: Shard) -> bool:
        try:
            return shard.is_there()
        except UnfitError as error:
            self.refuse(shard, error)
            return False


def parts_of(work: Extraction) -> Iterator[Part]:
    """The parts that are kept in a file each: some whole batches of one view."""
    step, n = max(1, SHARD_ROWS // work.batch_size) * work.batch_size, len(work.records)
    for view in range(work.views):
        yield from (Part(view, start, min(start + step, n)) for start in range(0, n, step))


def needs_of(reader: FeatureReader) -> str:
    """What a reader reads, in words."""
    needs = reader.image_needs()
    local = f", local {needs.local} {needs.space}" if needs.local else ""
    return f"global{local}{', own' if reader.feature_key() else ''}"

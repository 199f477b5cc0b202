"""The same image in several places of a data set: in two splits it makes a number wrong, in one it counts twice.

Two records are the same image if they have one id, lead to one file, or hold the same bytes. Bytes are read only
of images that are equally large.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from vlmprompt.collector import paused
from vlmprompt.data.contents import Stamp, content_digest, stamp
from vlmprompt.data.fewshot import FewShotSplit
from vlmprompt.data.records import Dataset, Record
from vlmprompt.data.splits import shortened
from vlmprompt.errors import InputError

# Up to so many images a run compares all of its data set, above, its shots alone with what they are held against.
WHOLE = 20_000
Spot = tuple[str, Record]  # split, record
Parts = Mapping[str, Sequence[Record]]


@dataclass(frozen=True)
class Copies:
    """One image and all its places."""

    places: tuple[Spot, ...]

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that it is in, each once."""
        return tuple(dict.fromkeys(split for split, _ in self.places))

    @property
    def across(self) -> bool:
        """Whether it is in more than one split."""
        return len(self.splits) > 1

    @property
    def contradictory(self) -> bool:
        """Whether it is said to show several classes."""
        return len({record.label for _, record in self.places}) > 1

    def __str__(self) -> str:
        return shortened([f"{record.id} ({split})" for split, record in self._telling()])

    def public(self) -> dict[str, list[str]]:
        """As JSON documents show it; `splits` is aligned with `images`."""
        return {"images": [r.id for _, r in self.places], "splits": [split for split, _ in self.places]}

    def _telling(self) -> list[Spot]:
        """The places, those that show every split first."""
        firsts = {split: place for place in reversed(self.places) for split in [place[0]]}
        shown = [firsts[split] for split in self.splits]
        return shown + [place for place in self.places if place not in shown]


def find_copies(parts: Parts, among: Collection[str] | None = None, *, read: bool = True) -> list[Copies]:
    """Images that stand in several places, in the order of the parts.

    Args:
        parts: split -> records.
        among: only images that are (also) in these splits; the others are compared with them alone.
        read: compare bytes; off: ids, and links to one file.
    """
    places = [(split, record) for split, records in parts.items() for record in records]
    groups = _Groups(len(places))
    groups.join((record.id, i) for i, (_, record) in enumerate(places))
    for numbers, stamps in _equally_large(places, among):
        groups.join((seen.file, i) for i, seen in zip(numbers, stamps, strict=True) if seen.file is not None)
        # Links to one file are read once.
        heads = {groups.head(i): (i, seen) for i, seen in zip(numbers, stamps, strict=True)}
        if read and len(heads) > 1:
            groups.join((content_digest(places[i][1].image, seen), i) for i, seen in heads.values())
    found = [Copies(tuple(places[i] for i in group)) for group in groups.several()]
    return [copies for copies in found if among is None or not set(copies.splits).isdisjoint(among)]


def _equally_large(places: Sequence[Spot], among: Collection[str] | None) -> Iterator[tuple[list[int], list[Stamp]]]:
    """Positions and stamps of images of one size, where there are several that need to be compared."""
    by_size: dict[int, tuple[list[int], list[Stamp]]] = defaultdict(lambda: ([], []))
    for i, (_, record) in enumerate(places):
        seen = stamp(record.image)
        if seen is not None and seen.size:
            numbers, stamps = by_size[seen.size]
            numbers.append(i)
            stamps.append(seen)
    for numbers, stamps in by_size.values():
        if len(numbers) > 1 and (among is None or any(places[i][0] in among for i in numbers)):
            yield numbers, stamps


class _Groups:
    """Positions that were found to be the same (union-find)."""

    def __init__(self, count: int) -> None:
        self._heads = list(range(count))

    def head(self, i: int) -> int:
        """The first position of the group of `i`."""
        while self._heads[i] != i:
            i = self._heads[i]
        return i

    def join(self, keyed: Iterable[tuple[Hashable, int]]) -> None:
        """Those with one key are the same; None is no key."""
        first: dict[Hashable, int] = {}
        for key, i in keyed:
            if key is not None and (other := first.setdefault(key, i)) != i:
                a, b = sorted((self.head(other), self.head(i)))
                self._heads[b] = a

    def several(self) -> Iterator[list[int]]:
        """The groups of more than one."""
        groups: dict[int, list[int]] = {}
        for i, other in enumerate(self._heads):
            if other != i:
                head = self.head(i)
                groups.setdefault(head, [head]).append(i)
        return iter(sorted(groups.values()))


def is_published(dataset: Dataset) -> bool:
    """Whether its split was found to be a published one: numbers on it compare as it is, whatever it holds."""
    note = dataset.notes.get("split")
    return isinstance(note, Mapping) and note.get("verified", "accepted") != "accepted"


def overlap_error(found: Sequence[Copies], spec: str) -> InputError:
    """The error for images that are in several splits."""
    return InputError(
        in_words(found, f"in more than one split of {spec}"),
        hint=f"keep one of each (listed by: vlmprompt data check {shlex.quote(spec)}), or accept it: --allow-overlap",
    )


def in_words(found: Sequence[Copies], where: str) -> str:
    """How many images are where, and the first of them."""
    return f"{len(found)} image{'s are' if len(found) > 1 else ' is'} {where}, such as {found[0]}"


def within_words(within: Sequence[Copies], where: str) -> list[str]:
    """What is said of images that are repeated within a split, those under different classes apart."""
    torn = [copies for copies in within if copies.contradictory]
    return [in_words(found, text) for found, text in ((within, where), (torn, "under different classes")) if found]


@paused()
def settle_copies(dataset: Dataset, split: FewShotSplit, *, allow: bool) -> tuple[Dataset, FewShotSplit]:
    """Refuse images in several splits before they are trained on; what is accepted or counts twice is noted.

    Of a large data set the shots are compared, with each other and with the whole test split: what a run does not
    read cannot make it wrong. `data check` compares everything.

    Returns:
        The data set with a note of what was accepted, and the shots with doubts.

    Raises:
        InputError: an image is in several splits, which neither `allow` nor a published split permits.
    """
    whole = sum(map(len, dataset.splits.values())) <= WHOLE
    drawn = {"train": split.train, "val": split.val, "test": dataset.splits.get("test", ())}
    found = find_copies(dataset.splits) if whole else find_copies(drawn, among=("train", "val"))
    across = [copies for copies in found if copies.across]
    within = [copies for copies in found if not copies.across]
    doubts = within_words(within, f"repeated within a split of {dataset.spec} and counted each time")
    if across:
        if not allow and not is_published(dataset):
            raise overlap_error(across, dataset.spec)
        why = "as published" if is_published(dataset) else "accepted"
        doubts.append(f"{in_words(across, f'in more than one split of {dataset.spec}')} ({why})")
        note = {"images": len(across), "first": str(across[0]), "why": why}
        dataset = replace(dataset, notes={**dataset.notes, "overlap": note})
    return dataset, replace(split, doubts=(*split.doubts, *doubts))

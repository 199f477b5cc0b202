"""The k-shot subset of a data set, drawn exactly as CoOp draws it."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vlmprompt.data.records import Dataset, Record
from vlmprompt.data.splits import by_label, shortened
from vlmprompt.errors import InputError

# CoOp: validation takes as many shots as training, but at most this many.
MAX_VAL_SHOTS = 4


@dataclass(frozen=True)
class FewShotSplit:
    """What a run trains on and chooses by.

    Attributes:
        train: k records a class, classes in order of first appearance, each class's in drawn order.
        val: min(k, 4) a class, or what there is.
        shots: k; None = everything.
        seed: of the draw.
    """

    train: tuple[Record, ...]
    val: tuple[Record, ...]
    shots: int | None
    seed: int

    @property
    def digest(self) -> str:
        """SHA-256 over the record ids of both parts, in order."""
        ids = {"train": [r.id for r in self.train], "val": [r.id for r in self.val]}
        return hashlib.sha256(json.dumps(ids, ensure_ascii=False).encode()).hexdigest()

    def restrict(self, labels: Sequence[int]) -> FewShotSplit:
        """The records of some classes only, relabelled from 0 in the order of `labels`.

        CoOp restricts after sampling: the base classes' shots are those of the draw over all classes.
        """
        new = {old: i for i, old in enumerate(labels)}

        def kept(part: tuple[Record, ...]) -> tuple[Record, ...]:
            return tuple(replace(r, label=new[r.label]) for r in part if r.label in new)

        return replace(self, train=kept(self.train), val=kept(self.val))


def sample(dataset: Dataset, shots: int | None, seed: int, *, allow_fewer: bool = False) -> FewShotSplit:
    """Draw a k-shot subset (CoOp's code, `generate_fewshot_dataset`).

    One generator of Python's `random`, seeded once: train records grouped by label in order of first
    appearance, `sample(records, k)` of each class, then the same for val with min(k, 4). A class that has
    fewer gives all it has and draws nothing from the generator.

    Args:
        shots: k; None takes every record.
        allow_fewer: accept classes with fewer than k train images; val may always have fewer.

    Raises:
        InputError: no train images, or classes with fewer than k of them.
    """
    train, val = dataset.split("train"), dataset.splits.get("val", ())
    if shots is None:
        return FewShotSplit(train, val, shots, seed)
    if not allow_fewer:
        _check_enough(dataset, shots)
    rng = random.Random(seed)
    drawn_train = _draw(train, shots, rng)
    drawn_val = _draw(val, min(shots, MAX_VAL_SHOTS), rng)
    return FewShotSplit(drawn_train, drawn_val, shots, seed)


def _draw(records: Sequence[Record], k: int, rng: random.Random) -> tuple[Record, ...]:
    drawn: list[Record] = []
    for rows in by_label(records).values():
        drawn += rng.sample(rows, k) if len(rows) >= k else rows
    return tuple(drawn)


def _check_enough(dataset: Dataset, shots: int) -> None:
    groups = by_label(dataset.split("train"))
    counts = [(name, len(groups.get(label, ()))) for label, name in enumerate(dataset.class_names)]
    short = [f"{name!r} ({n})" for name, n in counts if n < shots]
    if short:
        raise InputError(
            f"{len(short)} of {len(counts)} classes have fewer than {shots} train images: {shortened(short)}",
            hint="--allow-fewer takes all images of these classes, or lower --shots",
        )

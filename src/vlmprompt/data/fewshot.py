"""The k-shot subset of a data set, drawn exactly as CoOp draws it, or as GalLoP's code does."""

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
SAMPLERS = ("coop", "gallop")
# Protocol -> how it samples.
SAMPLER_OF = {"coop": "coop", "gallop-code": "gallop"}


@dataclass(frozen=True)
class FewShotSplit:
    """What a run trains on and chooses by.

    Attributes:
        train: k records a class, classes in order of first appearance, each class's in drawn order (sampler
            "gallop": k times the number of classes, in drawn order).
        val: min(k, 4) a class, or what there is.
        shots: k; None = everything.
        seed: of the draw.
        doubts: what a user should know of the draw.
    """

    train: tuple[Record, ...]
    val: tuple[Record, ...]
    shots: int | None
    seed: int
    doubts: tuple[str, ...] = ()

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


def sample(
    dataset: Dataset, shots: int | None, seed: int, *, allow_fewer: bool = False, sampler: str = "coop"
) -> FewShotSplit:
    """Draw a k-shot subset (CoOp's code, `generate_fewshot_dataset`).

    One generator of Python's `random`, seeded once: train records grouped by label in order of first
    appearance, `sample(records, k)` of each class, then the same for val with min(k, 4). A class that has
    fewer gives all it has and draws nothing from the generator.

    GalLoP's code draws otherwise, see `draw_proportional`; its sampler "gallop" here has the same validation
    images as "coop" (the code has none).

    Args:
        shots: k; None takes every record.
        allow_fewer: accept classes with fewer than k train images; val may always have fewer.
        sampler: "coop" or "gallop".

    Raises:
        InputError: no train images, or classes with fewer than k of them.
    """
    train, val = dataset.split("train"), dataset.splits.get("val", ())
    if shots is None:
        return FewShotSplit(train, val, shots, seed)
    if not allow_fewer and sampler == "coop":
        _check_enough(dataset, shots)
    rng = random.Random(seed)
    drawn_train = _draw(train, shots, rng)
    drawn_val = _draw(val, min(shots, MAX_VAL_SHOTS), rng)
    if sampler == "coop":
        return FewShotSplit(drawn_train, drawn_val, shots, seed)
    proportional = draw_proportional(train, shots * len(dataset.class_names), seed)
    return FewShotSplit(proportional, drawn_val, shots, seed, _left_out(dataset, proportional))


def with_val(dataset: Dataset, split: FewShotSplit) -> tuple[FewShotSplit, str]:
    """Validation shots for a data set without a val split: min(k, 4) of each class's other train images.

    Drawn by `random.Random(seed)`, classes in order of first appearance; a class with fewer gives them all.
    They choose hyper-parameters of closed-form methods and, where that is asked for, the state that a run ends with;
    they are never trained on.

    Returns:
        The split with them, and in words where they are from.
    """
    if split.val:
        return split, "val split"
    if split.shots is None:
        return split, "none: all train images are trained on"
    taken = {record.id for record in split.train}
    rng = random.Random(split.seed)
    val: list[Record] = []
    for rows in by_label(r for r in dataset.split("train") if r.id not in taken).values():
        val += rng.sample(rows, min(split.shots, MAX_VAL_SHOTS, len(rows)))
    source = f"train images beyond the shots, random.Random({split.seed})" if val else "none: no train images are left"
    return replace(split, val=tuple(val)), source


def draw_proportional(records: Sequence[Record], size: int, seed: int) -> tuple[Record, ...]:
    """So many records, each class in proportion to its share of all (GalLoP's code).

    `StratifiedShuffleSplit(train_size=size, random_state=seed)` of scikit-learn, in its order. "16 shots" are
    thus 16 a class on average only: small classes get fewer, or none. With no more records than asked for, all.

    Raises:
        InputError: a class has one record only, or fewer records are left over than there are classes, which
            scikit-learn does not split.
    """
    if size >= len(records):
        return tuple(records)
    from sklearn.model_selection import StratifiedShuffleSplit

    labels = [record.label for record in records]
    splitter = StratifiedShuffleSplit(n_splits=1, train_size=size, random_state=seed)
    try:
        chosen, _ = next(splitter.split(labels, labels))
    except ValueError as error:
        raise InputError(
            f"the gallop sampler cannot draw {size} of {len(records)} train images: {error}",
            hint="use --protocol coop, or other --shots",
        ) from error
    return tuple(records[i] for i in chosen)


def _left_out(dataset: Dataset, drawn: Sequence[Record]) -> tuple[str, ...]:
    groups = by_label(drawn)
    without = [repr(name) for label, name in enumerate(dataset.class_names) if label not in groups]
    if not without:
        return ()
    return (f"the gallop sampler draws no image of {len(without)} classes: {shortened(without)}",)


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

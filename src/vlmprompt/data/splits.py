"""Train, val and test: their names, a split by recorded seed, and whether they agree on the classes."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from vlmprompt.data.records import Record, records_digest
from vlmprompt.errors import InputError

MIN_TO_SPLIT = 4

Splits = dict[str, tuple[Record, ...]]


def by_label(records: Iterable[Record]) -> dict[int, list[Record]]:
    """Records grouped by label, labels in order of first appearance."""
    groups: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        groups[record.label].append(record)
    return dict(groups)


def to_measure(splits: Mapping[str, tuple[Record, ...]]) -> tuple[Splits, dict[str, object]]:
    """What is measured of data that nothing is trained on: their test split, or everything where they have none."""
    own = splits.get("test", ())
    return {"test": own or sum(splits.values(), ())}, {"measured": "the test split" if own else "every image"}


def seeded_split(
    records: Iterable[Record], class_names: Sequence[str], seed: int | None
) -> tuple[Splits, dict[str, object]]:
    """Split each class 50/20/30 into train, val and test, the shares of CoOp's own splits.

    Within a class, images are ordered by the SHA-256 of seed and id, so the split depends on neither the
    order of listing nor the other classes, and is the same under every Python version. Counts are
    round(n/2), round(n/5) but at least 1, and the rest.

    Args:
        seed: None for data that are only measured: all images are test images then.

    Returns:
        The splits, each in the order of (label, id), and what to record of how they were made.

    Raises:
        InputError: a class has fewer than 4 images.
    """
    if seed is None:
        return to_measure({"": tuple(records)})
    splits: dict[str, list[Record]] = {"train": [], "val": [], "test": []}
    for label, rows in sorted(by_label(records).items()):
        n = len(rows)
        if n < MIN_TO_SPLIT:
            raise InputError(
                f"class {class_names[label]!r} has {n} images, a split needs {MIN_TO_SPLIT} of each class",
                hint="add images, or give the split: train/ and test/ folders, or a split column; "
                "data that are only measured (--domain, --target, --ood, evaluate --data) need none",
            )
        rows.sort(key=lambda r: hashlib.sha256(f"{seed}/{r.id}".encode()).digest())
        n_train, n_val = round(n / 2), max(1, round(n / 5))
        bounds = (0, n_train, n_train + n_val, n)
        for split, start, stop in zip(splits, bounds, bounds[1:], strict=False):
            splits[split] += sorted(rows[start:stop], key=lambda r: r.id)
    made = {split: tuple(rows) for split, rows in splits.items()}
    rule = "each class 50/20/30 in the order of sha256('<seed>/<id>')"
    digests = {split: records_digest(rows) for split, rows in made.items()}
    return made, {"seed": seed, "rule": rule, "digests": digests}


def check_coverage(splits: Mapping[str, Sequence[Record]], class_names: Sequence[str]) -> list[str]:
    """Whether the splits agree on the classes.

    Returns:
        Warnings: classes without images in a split that has images of others.

    Raises:
        InputError: a class of val or test has no training images.
    """
    used = {split: {r.label for r in records} for split, records in splits.items() if records}
    train = used.get("train")
    warnings = []
    for split, labels in used.items():
        if train is not None and labels - train:
            label = min(labels - train)
            raise InputError(
                f"class {class_names[label]!r} is in {split} but has no train images",
                hint="check its spelling in both splits, or add train images",
            )
        missing = [repr(class_names[label]) for label in range(len(class_names)) if label not in labels]
        if missing:
            count = f"{len(missing)} of {len(class_names)} classes"
            warnings.append(f"no {split} images of {count}: {shortened(missing)}")
    return warnings


def shortened(names: Sequence[str], limit: int = 3) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more

"""Which classes a setting trains on."""

from __future__ import annotations

from vlmprompt.errors import InputError


def base_new_labels(n_classes: int) -> tuple[range, range]:
    """The base and the new half of a label space: the first ceil(n/2) labels, and the rest (CoOp's code).

    Raises:
        InputError: fewer than 2 classes, so that there is no new half.
    """
    if n_classes < 2:
        raise InputError(
            f"base-to-new needs at least 2 classes, the data set has {n_classes}",
            hint="use --setting few-shot, or another data set",
        )
    n_base = (n_classes + 1) // 2
    return range(n_base), range(n_base, n_classes)

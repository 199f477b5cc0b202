"""Rows of a source that cannot be used: how they are marked, and what is said of those that are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vlmprompt.data.splits import shortened

# How rows without a label are marked: test splits of challenges, and what losses ignore.
UNLABELLED = ("-1", "-100")


def left_out(rows: Mapping[str, Sequence[str]]) -> list[str]:
    """A warning for each reason.

    Args:
        rows: "no label" or the like -> the names of such rows.
    """
    return [
        f"{len(names)} row(s) with {reason} left out: {shortened(names)}" for reason, names in rows.items() if names
    ]

"""How a method shows in numbers what it has learned; this module imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LearnedTable:
    """A table of a trained run, short enough to be printed.

    Attributes:
        rows: of cells as they are read, one for each column.
        caption: what is seen, in a sentence or two.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

"""How a method says what of its log is worth a picture; this module imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Panel:
    """One plot of a picture, over epochs.

    Attributes:
        lines: what a line is called -> its name in the epochs' lines of the log, such as `diagnostics.gate_v.1.cross`.
        limits: of the vertical axis, either end or both; None: as the values have it.
        log: logarithmic vertical axis.
    """

    title: str
    label: str
    lines: Mapping[str, str]
    limits: tuple[float | None, float | None] | None = None
    log: bool = False


@dataclass(frozen=True)
class Curves:
    """One picture.

    Attributes:
        name: file name without its ending; letters, digits and "-".
        caption: what is seen, in a sentence or two.
    """

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]

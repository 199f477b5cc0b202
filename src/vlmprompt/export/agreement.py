"""Whether an export says what the run says.

Shapes: B images, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Difference:
    """How far logits are from what they should be.

    Attributes:
        absolute: the largest difference.
        relative: the same, as a share of the largest logit where that is above 1.
    """

    absolute: float
    relative: float


def difference(logits_BK: Tensor, expected_BK: Tensor) -> Difference:
    """Of some logits; no number (NaN) where there are some that are none."""
    absolute = float((logits_BK - expected_BK).abs().max())
    return Difference(absolute, absolute / max(1.0, float(expected_BK.abs().max())))


def largest(one: Difference, other: Difference) -> Difference:
    """Of two; NaN counts as large."""
    return other if not other.relative <= one.relative else one

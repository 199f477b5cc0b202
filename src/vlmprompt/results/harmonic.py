"""H, the harmonic mean of base and new accuracy, and the two ways in which papers average it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

# The names in rows: cells of the two halves, and the two averages.
BASE, NEW = "base", "new"
H_OF_MEANS, MEAN_OF_H = "h_of_means", "mean_of_h"


def h(base: float, new: float) -> float:
    """H = 2 b n / (b + n), in the unit of its arguments; 0 where both are 0 (Xian et al., CVPR 2017)."""
    return 2 * base * new / (base + new) if base + new > 0 else 0.0


def h_of_means(base: Sequence[float], new: Sequence[float]) -> float:
    """H of the averaged accuracies, as CoCoOp, MaPLe and PromptSRC print it.

    Args:
        base: base accuracy of each run (data set or seed).
        new: new accuracy of the same runs.
    """
    return h(fmean(base), fmean(new))


def mean_of_h(base: Sequence[float], new: Sequence[float]) -> float:
    """The average of each run's own H, as DUAL-PT prints it; never above `h_of_means`.

    Args:
        base: base accuracy of each run (data set or seed).
        new: new accuracy of the same runs, in the same order.
    """
    return fmean(h(b, n) for b, n in zip(base, new, strict=True))

"""Whether one classifier is better than another on the same images, and how sure that is.

Shapes: S seeds, N images. Numbers of images that only one of two gets right are called b and c, as in McNemar's table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from vlmprompt.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from vlmprompt.results.details import Details

    Bools = np.ndarray[Any, np.dtype[np.bool_]]

EXACT_BELOW = 25  # of b + c; the usual rule
RESAMPLES = 2000
LEVEL = 0.95
_BLOCK = 1 << 22  # images drawn at once
_SHOWN = 3


@dataclass(frozen=True)
class McNemar:
    """McNemar's test (Psychometrika 1947) of two classifiers that are equally often right.

    Attributes:
        only_first, only_second: images that one gets right and the other wrong (b, c).
        n: all images.
        exact: by the binomial distribution, two-sided; else chi-square with one degree of freedom and Edwards'
            continuity correction.
        p: how often so large a difference, or a larger one, would come about by chance.
    """

    only_first: int
    only_second: int
    n: int
    exact: bool
    p: float


@dataclass(frozen=True)
class Difference:
    """A difference of accuracies, first minus second, and its percentile bootstrap interval.

    Attributes:
        value, low, high: fractions.
        n: images.
        seeds: runs of each side.
        how: what was drawn.
    """

    value: float
    low: float
    high: float
    n: int
    seeds: tuple[int, int]
    how: str
    resamples: int = RESAMPLES
    level: float = LEVEL


def mcnemar(first_N: Bools, second_N: Bools) -> McNemar:
    """The test of two runs; True is an image that was classified rightly.

    Raises:
        InputError: there are no images.
    """
    n = _images(first_N, second_N)
    b, c = int((first_N & ~second_N).sum()), int((second_N & ~first_N).sum())
    exact = b + c < EXACT_BELOW
    return McNemar(b, c, n, exact, _binomial(b, c) if exact else _chi_square(b, c))


def _binomial(b: int, c: int) -> float:
    """Two-sided, of b successes in b + c tosses of a fair coin."""
    tail = sum(math.comb(b + c, i) for i in range(min(b, c) + 1))
    return min(1.0, 2 * tail / 2 ** (b + c))


def _chi_square(b: int, c: int) -> float:
    statistic = max(0, abs(b - c) - 1) ** 2 / (b + c)
    return math.erfc(math.sqrt(statistic / 2))


def holm(p: Sequence[float]) -> list[float]:
    """p-values of several tests, corrected for there being several (Holm, 1979), in the given order."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    corrected, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = largest
    return corrected


def difference(first_SN: Bools, second_SN: Bools, random: Random, *, shared_seeds: bool = True) -> Difference:
    """The difference of two mean accuracies, with a bootstrap interval.

    Images are drawn with replacement, the same ones for both sides and all seeds, so that the interval is that of a
    paired comparison. With several seeds it is hierarchical: in each resample runs are drawn with replacement first,
    the same seeds for both sides where these have the same, and then images.

    Args:
        first_SN, second_SN: True is an image that was classified rightly; the sides may differ in S.
        random: decides what is drawn.
        shared_seeds: the s-th run of both sides has the same seed.

    Raises:
        InputError: there are no images.
    """
    import numpy as np

    n = _images(first_SN[0], second_SN[0])
    seeds = len(first_SN), len(second_SN)
    both = shared_seeds and seeds[0] == seeds[1]
    first, second = (side.astype(np.float32) for side in (first_SN, second_SN))
    found = np.empty(RESAMPLES)
    for start in range(0, RESAMPLES, size := max(1, _BLOCK // n)):
        count = min(size, RESAMPLES - start)
        image_RN = _drawn(random, n, (count, n))
        drawn_first = _drawn(random, seeds[0], (count, seeds[0]))
        drawn_second = drawn_first if both else _drawn(random, seeds[1], (count, seeds[1]))
        for r in range(count):
            gap_N = first[drawn_first[r]].mean(axis=0) - second[drawn_second[r]].mean(axis=0)
            found[start + r] = gap_N[image_RN[r]].mean(dtype=np.float64)
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    value = float(first_SN.mean()) - float(second_SN.mean())
    return Difference(value, float(low), float(high), n, seeds, _how(seeds, both))


def _how(seeds: tuple[int, int], both: bool) -> str:
    if seeds == (1, 1):
        return "images drawn"
    return f"seeds drawn ({'the same for both' if both else 'for each side'}), then images"


def _drawn(random: Random, n: int, shape: tuple[int, int]) -> Any:
    """Whole numbers below n, each equally likely (to within n / 2^32)."""
    import numpy as np

    numbers = np.frombuffer(random.randbytes(4 * shape[0] * shape[1]), dtype="<u4").reshape(shape)
    return (numbers.astype(np.uint64) * np.uint64(n)) >> np.uint64(32)


def _images(first_N: Bools, second_N: Bools) -> int:
    if len(first_N) != len(second_N):
        raise InputError(f"{len(first_N)} images cannot be paired with {len(second_N)}")
    if not len(first_N):
        raise InputError("there are no images to compare on")
    return len(first_N)


def right_on(ids: Sequence[str], details: Details, names: tuple[str, str]) -> Bools:
    """Which images were classified rightly, in the order of `ids`.

    Args:
        names: whose images `ids` are, and whose `details` are, for the error.

    Raises:
        InputError: the images are not the same, or one stands there twice; says which.
    """
    place = {identity: i for i, identity in enumerate(details.ids)}
    if len(place) < len(details.ids):
        twice = [identity for i, identity in enumerate(details.ids) if place[identity] != i]
        raise InputError(f"{names[1]} has images twice, so they cannot be paired: {_some(twice)}")
    lacking = [identity for identity in ids if identity not in place]
    more = sorted(set(details.ids) - set(ids))
    if lacking or more:
        said = [f"{len(lacking)} were measured for {names[0]} alone ({_some(lacking)})"] if lacking else []
        said += [f"{len(more)} for {names[1]} alone ({_some(more)})"] if more else []
        raise InputError(
            f"{names[0]} and {names[1]} were not measured on the same images: {', '.join(said)}",
            hint="measure both on the same data: 'vlmprompt evaluate RUN --data ... --force'",
        )
    right: Bools = (details.label == details.prediction)[[place[identity] for identity in ids]]
    return right


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_SHOWN]) + (", ..." if len(ids) > _SHOWN else "")

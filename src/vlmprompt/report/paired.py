"""Whether one classifier is better than another on the same images, and how sure that is.

Numbers of images that only one of two gets right are called b and c, as in McNemar's table.

Shapes: S runs, N images, R resamples.
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
    Whole = np.ndarray[Any, np.dtype[np.int64]]

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
        how: what was drawn with replacement.
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
    n = len(first_N)
    _require_images(n)
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


class Bootstrap:
    """Accuracies of several runs on images that were drawn with replacement, the same images for all of them.

    Args:
        rights_SN: of each run, True is an image that was classified rightly.
        random: decides what is drawn.

    Raises:
        InputError: there are no images.
    """

    def __init__(self, rights_SN: Bools, random: Random) -> None:
        import numpy as np

        self._rights_SN = rights_SN
        n_seeds, n = rights_SN.shape
        _require_images(n)
        self._accuracy_RS = np.empty((RESAMPLES, n_seeds))
        rights_NS = rights_SN.T.astype(np.float64)
        rows = max(1, _BLOCK // n)
        for start in range(0, RESAMPLES, rows):
            count = min(rows, RESAMPLES - start)
            place_RN = _drawn(random, n, (count, n)) + n * np.arange(count)[:, None]
            times_RN = np.bincount(place_RN.ravel(), minlength=count * n).reshape(count, n)
            self._accuracy_RS[start : start + count] = times_RN @ rights_NS / n

    def difference(self, first: Sequence[int], second: Sequence[int], random: Random, *, joint: bool) -> Difference:
        """The difference of the mean accuracies of two methods, with its interval.

        The interval is that of a paired comparison. With several seeds it is hierarchical: in each resample runs are
        drawn with replacement as well.

        Args:
            first, second: places of their runs.
            random: decides which runs are drawn.
            joint: the runs of both have the same seeds in the same order, which are then drawn together.
        """
        import numpy as np

        seeds = len(first), len(second)
        drawn_first = _drawn(random, seeds[0], (RESAMPLES, seeds[0]))
        drawn_second = drawn_first if joint else _drawn(random, seeds[1], (RESAMPLES, seeds[1]))
        sides = ((first, drawn_first), (second, drawn_second))
        means = [np.take_along_axis(self._accuracy_RS[:, side], drawn, axis=1).mean(axis=1) for side, drawn in sides]
        low, high = np.quantile(means[0] - means[1], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        value = self.accuracy(first) - self.accuracy(second)
        return Difference(value, float(low), float(high), self._rights_SN.shape[1], seeds, _how(seeds, joint))

    def accuracy(self, runs: Sequence[int]) -> float:
        """The mean accuracy of some runs, on the images themselves."""
        return float(self._rights_SN[list(runs)].mean())


def _how(seeds: tuple[int, int], joint: bool) -> str:
    if seeds == (1, 1):
        return "images"
    return f"images and seeds ({'the same for both' if joint else 'of each side'})"


def _drawn(random: Random, n: int, shape: tuple[int, int]) -> Whole:
    """Whole numbers below n, each equally likely (to within n / 2^32)."""
    import numpy as np

    numbers = np.frombuffer(random.randbytes(4 * shape[0] * shape[1]), dtype="<u4").reshape(shape)
    return ((numbers.astype(np.uint64) * np.uint64(n)) >> np.uint64(32)).astype(np.int64)


def _require_images(n: int) -> None:
    if not n:
        raise InputError("there are no images to compare on")


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

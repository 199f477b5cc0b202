"""How far probabilities can be trusted, from what was said of each image; torch is not needed.

All take arrays of one number an image, in any order, and give plain numbers. `confidence` is the largest probability
of an image, `correct` whether the class that has it is right, `true_probability` that of the right class.

Shapes: B images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from vlmprompt.errors import InputError

if TYPE_CHECKING:
    Floats = np.ndarray[Any, np.dtype[np.float64]]

BINS = 15
SMALLEST = 2.0**-149  # the smallest positive number of float32: a probability below counts as this in `nll`
# Metric -> whether higher is better.
CALIBRATION_METRICS: Mapping[str, bool] = {
    "ece_15": False,
    "ece_adaptive_15": False,
    "brier": False,
    "nll": False,
    "aurc": False,
}


@dataclass(frozen=True)
class Bin:
    """Images of similar confidence.

    Attributes:
        low, high: of equal width: the interval (low, high]; of equal mass: the least and the largest confidence.
        n: images, at least one.
        confidence: their mean confidence.
        accuracy: the share of them that is right.
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def ece(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS, adaptive: bool = False) -> float:
    """Expected calibration error: the mean over images of |accuracy - mean confidence| of an image's bin.

    Bins have equal width and are closed above (Guo et al., ICML 2017), or with `adaptive` equal mass (Nixon et al.,
    CVPR workshops 2019); see `reliability`.

    Raises:
        InputError: there are no images.
    """
    confidence_B, correct_B = _arrays(confidence, correct)
    if adaptive:
        found = reliability(confidence_B, correct_B, bins, adaptive=True)
        return sum(one.n * abs(one.accuracy - one.confidence) for one in found) / len(confidence_B)
    return float(np.abs(gaps(confidence_B, correct_B, bins)).sum()) / len(confidence_B)


def gaps(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> Floats:
    """Of each bin of equal width, the sum over its images of (1 if right) - confidence: (bins,)."""
    confidence_B, correct_B = _arrays(confidence, correct)
    weights_B = correct_B - confidence_B
    return np.bincount(_bins(confidence_B, bins), weights=weights_B, minlength=bins).astype(np.float64, copy=False)


def reliability(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS, adaptive: bool = False) -> list[Bin]:
    """The bins that hold images, by ascending confidence.

    Those of equal width are (0, 1/bins], (1/bins, 2/bins] ... For those of equal mass images are sorted by confidence
    and cut into `bins` groups whose sizes differ by one at most; of images with equal confidence each counts as right
    by the share of them that is, so that their order does not matter.

    Raises:
        InputError: there are no images.
    """
    confidence_B, correct_B = _arrays(confidence, correct)
    if adaptive:
        confidence_B, correct_B = (part[::-1] for part in _descending(confidence_B, correct_B))
        parts = [part for part in np.array_split(np.arange(len(confidence_B)), bins) if len(part)]
        return [_bin(confidence_B[p], correct_B[p], confidence_B[p[0]], confidence_B[p[-1]]) for p in parts]
    place_B = _bins(confidence_B, bins)
    return [
        _bin(confidence_B[place_B == i], correct_B[place_B == i], i / bins, (i + 1) / bins) for i in np.unique(place_B)
    ]


def brier(true_probability: ArrayLike, square_sum: ArrayLike) -> float:
    """Brier score of several classes, in [0, 2]: the mean over images of sum_k (p_k - [k is right])^2 (Brier, 1950).

    Args:
        square_sum: of each image the sum over classes of squared probabilities.

    Raises:
        InputError: there are no images.
    """
    true_B, square_B = _arrays(true_probability, square_sum)
    return float(np.mean(square_B - 2 * true_B + 1))


def nll(true_probability: ArrayLike) -> float:
    """The mean over images of -ln of the right class's probability, which counts as `SMALLEST` at least.

    Raises:
        InputError: there are no images.
    """
    (true_B,) = _arrays(true_probability)
    return float(-np.log(np.maximum(true_B, SMALLEST)).mean())


def aurc(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Area under the risk-coverage curve (Geifman et al., ICLR 2019): the mean of the last column of `risk_coverage`.

    Raises:
        InputError: there are no images.
    """
    return float(risk_coverage(confidence, correct)[1].mean())


def risk_coverage(confidence: ArrayLike, correct: ArrayLike) -> tuple[Floats, Floats]:
    """What answering the surest images alone costs: coverage i/B, and the share of these i that is wrong; (B,) each.

    Of images with equal confidence each counts as wrong by the share of them that is: the mean over their orders.

    Raises:
        InputError: there are no images.
    """
    _, correct_B = _descending(*_arrays(confidence, correct))
    count_B = np.arange(1, len(correct_B) + 1)
    return count_B / len(correct_B), np.cumsum(1 - correct_B) / count_B


def calibration_metrics(
    confidence: ArrayLike, correct: ArrayLike, true_probability: ArrayLike, square_sum: ArrayLike
) -> dict[str, float]:
    """All of `CALIBRATION_METRICS`.

    Raises:
        InputError: there are no images.
    """
    return {
        "ece_15": ece(confidence, correct, 15),
        "ece_adaptive_15": ece(confidence, correct, 15, adaptive=True),
        "brier": brier(true_probability, square_sum),
        "nll": nll(true_probability),
        "aurc": aurc(confidence, correct),
    }


def _arrays(*numbers: ArrayLike) -> tuple[Floats, ...]:
    """As float64."""
    found = tuple(np.asarray(part, dtype=np.float64).reshape(-1) for part in numbers)
    if not len(found[0]):
        raise InputError("there are no images to measure on")
    if len({len(part) for part in found}) > 1:
        raise ValueError(f"one number an image is wanted, not {', '.join(str(len(part)) for part in found)}")
    return found


def _bins(confidence_B: Floats, bins: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The place of each image's bin of equal width, closed above: (B,)."""
    return np.clip(np.ceil(confidence_B * bins).astype(np.int64), 1, bins) - 1


def _descending(confidence_B: Floats, correct_B: Floats) -> tuple[Floats, Floats]:
    """By falling confidence, each image right by the share of those with its confidence."""
    distinct, group_B, count = np.unique(-confidence_B, return_inverse=True, return_counts=True)
    share = np.bincount(group_B, weights=correct_B) / count
    return np.repeat(-distinct, count), np.repeat(share, count)


def _bin(confidence: Floats, correct: Floats, low: float, high: float) -> Bin:
    return Bin(float(low), float(high), len(confidence), float(confidence.mean()), float(correct.mean()))

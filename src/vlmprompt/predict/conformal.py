"""Prediction sets that hold the right class as often as promised: split-conformal prediction.

The score of an image is 1 - the probability of its right class (LAC: Sadinle et al., JASA 2019). The threshold is the
ceil((n + 1)(1 - alpha))-th smallest of n images that were not learned from; a set holds every class whose own score
is not above it. If further images are exchangeable with these, sets hold their right class with probability
1 - alpha or more (Vovk et al., 2005), whatever the model. torch is not needed.

Shapes: N images, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from vlmprompt.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

ALPHAS = (0.05, 0.1, 0.2)
EVERYTHING = 1.0  # the threshold that no class is above


@dataclass(frozen=True)
class Coverage:
    """What a threshold promises, and what it gives on other images.

    Attributes:
        alpha: the share of images whose set may lack the right class.
        threshold: see `conformal_threshold`; `EVERYTHING` where n is below `least_images`.
        n: images that it was set by.
        coverage: the share of other images whose set holds the right class.
        test_n: these images.
    """

    alpha: float
    threshold: float
    n: int
    coverage: float
    test_n: int


def conformal_threshold(probabilities_NK: Tensor | ArrayLike, labels_N: Tensor | ArrayLike, alpha: float) -> float:
    """The largest score that a class in a set may have; `EVERYTHING` where N is below `least_images`.

    Args:
        probabilities_NK: of images that were not learned from.

    Raises:
        InputError: there are no images.
    """
    labels = np.asarray(labels_N)
    return threshold_of(np.asarray(probabilities_NK)[np.arange(len(labels)), labels], alpha)


def threshold_of(true_probability_N: ArrayLike, alpha: float) -> float:
    """`conformal_threshold`, where of each image the probability of its right class is known."""
    scores_N = np.sort(1 - np.asarray(true_probability_N))
    if not len(scores_N):
        raise InputError("there are no images to set a threshold by")
    place = _place(len(scores_N), alpha)
    return EVERYTHING if place > len(scores_N) else float(scores_N[place - 1])


def prediction_sets(probabilities_NK: Tensor, threshold: float) -> Tensor:
    """The classes in each set, bool (N,K); arrays are given for arrays.

    Args:
        probabilities_NK: in the precision in which the threshold was found.
    """
    return (1 - probabilities_NK) <= threshold


def least_images(alpha: float) -> int:
    """How many images a threshold wants: with fewer none is certain enough, and sets hold all classes."""
    share = _exact(alpha)
    return math.ceil((1 - share) / share)


def conformal_summary(
    true_probability_N: ArrayLike, test_true_probability: ArrayLike, alphas: Sequence[float] = ALPHAS
) -> list[Coverage]:
    """Thresholds by some images, and the share of other images whose sets hold the right class.

    Args:
        true_probability_N: of images that were not learned from, the probability of the right class.
        test_true_probability: the same of the others, in the same precision.

    Raises:
        InputError: there are no images.
    """
    own, test = np.asarray(true_probability_N), np.asarray(test_true_probability)
    if not len(test):
        raise InputError("there are no images to measure the coverage on")

    def one(alpha: float) -> Coverage:
        threshold = threshold_of(own, alpha)
        return Coverage(alpha, threshold, len(own), float(np.mean((1 - test) <= threshold)), len(test))

    return [one(alpha) for alpha in alphas]


def _place(n: int, alpha: float) -> int:
    """ceil((n + 1)(1 - alpha)), of alpha as it is written: in floats 20 x 0.95 may be above 19."""
    return math.ceil((n + 1) * (1 - _exact(alpha)))


def _exact(alpha: Any) -> Fraction:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, not {alpha}")
    return Fraction(repr(float(alpha)))

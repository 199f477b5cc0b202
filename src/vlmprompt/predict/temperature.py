"""Temperature scaling: one number that logits are divided by, so that probabilities mean what they say.

Guo et al., ICML 2017. The temperature T minimises the negative log-likelihood of the right classes,

    NLL(T) = mean over images of  logsumexp(z / T) - z_y / T,

which is convex in b = 1 / T. Its slope in b is the mean of E_p[z] - z_y, its curvature that of Var_p[z], with p =
softmax(b z). Predictions do not change, only how sure they are.

Shapes: N images, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from vlmprompt.errors import InputError

FEW = 100  # images; with fewer the temperature is not much better than a guess
ROWS = 4096  # images at a time: everything is float64
STEPS = 200  # far more than ever needed
TOLERANCE = 1e-12  # relative, of b


def fit_temperature(logits_NK: Tensor, labels_N: Tensor) -> float:
    """The temperature of least NLL. No random numbers: equal logits give equal temperatures.

    Newton's method on b within a bracket that shrinks at every step.

    Raises:
        InputError: there are no images, a logit is not finite, or no temperature is best: every image is told right
            (the surer the better), or on average right classes have no more than the mean logit (the less sure the
            better).
    """
    _require_optimum(logits_NK, labels_N)
    low, high = _bracket(logits_NK, labels_N)
    inverse = math.sqrt(low * high)
    for _ in range(STEPS):
        slope, curvature = _slope(logits_NK, labels_N, inverse)
        if slope == 0:
            break
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        wanted = inverse - slope / curvature if curvature > 0 else math.inf
        step = wanted if low < wanted < high else math.sqrt(low * high)
        done = abs(step - inverse) <= TOLERANCE * inverse
        inverse = step
        if done:
            break
    return 1 / inverse


def scaled(logits_BK: Tensor, temperature: float) -> Tensor:
    """Logits at a temperature, in float64, where different logits stay different."""
    return logits_BK.double() / temperature


def _require_optimum(logits_NK: Tensor, labels_N: Tensor) -> None:
    n = len(labels_N)
    if n == 0:
        raise InputError("there are no images to fit a temperature on")
    if not torch.isfinite(logits_NK).all():
        raise InputError("some logits are not finite, so no temperature can be fitted")
    own_N = logits_NK.gather(1, labels_N[:, None])[:, 0]
    if bool((own_N >= logits_NK.amax(dim=1)).all()):
        raise InputError(
            f"all {n} images are told right, so that no temperature is best: the surer the better",
            hint="fit on more images",
        )
    if float((logits_NK.double().mean(dim=1) - own_N.double()).mean()) >= 0:
        raise InputError(
            f"on these {n} images predictions are no better than chance, so that no temperature is best",
            hint="look at the accuracy: the run has learned nothing of them",
        )


def _bracket(logits_NK: Tensor, labels_N: Tensor) -> tuple[float, float]:
    """Values of b with the optimum in between."""
    low = high = 1.0
    while _slope(logits_NK, labels_N, low)[0] >= 0:
        low /= 4
    while _slope(logits_NK, labels_N, high)[0] <= 0:
        high *= 4
    return low, high


def _slope(logits_NK: Tensor, labels_N: Tensor, inverse: float) -> tuple[float, float]:
    """Slope and curvature of the NLL in b = 1 / T."""
    slope = curvature = 0.0
    for logits, labels in _chunks(logits_NK, labels_N):
        own = logits.gather(1, labels[:, None])
        centred = logits - own  # what is far from 0 has little probability or much to say
        p = (inverse * centred).softmax(dim=1)
        mean = (p * centred).sum(dim=1)
        slope += float(mean.sum())
        curvature += float(((p * centred.square()).sum(dim=1) - mean.square()).sum())
    return slope / len(labels_N), curvature / len(labels_N)


def _chunks(logits_NK: Tensor, labels_N: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for logits, labels in zip(logits_NK.split(ROWS), labels_N.split(ROWS), strict=True):
        yield logits.double(), labels

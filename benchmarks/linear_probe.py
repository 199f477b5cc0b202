"""The linear probe against scikit-learn's logistic regression: one fit, and the whole search for C.

Both reach the optimum: scikit-learn's with a tolerance that follows C, without which it stops far from it.
"""

from __future__ import annotations

import time
import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.frame import Mark, Row, timed
from vlmprompt.methods.linear_probe import search_c
from vlmprompt.methods.logistic import Regression

DIM, MOST_VAL_SHOTS = 512, 4
# Classes and shots. At 1,000 classes with 16 shots scikit-learn's search takes hours: one fit is compared there.
SEARCHED, FITTED = ((50, 16), (200, 16), (1_000, 1)), (1_000, 16)
FASTER, AGREE = 5.0, 1e-3


def measure(repeats: int = 1) -> list[Row]:
    """Processor seconds; a search is too long to be repeated."""
    return [*(_search(*size) for size in SEARCHED), _one_fit(*FITTED)]


def _search(classes: int, shots: int) -> Row:
    train, val = features(classes, shots, 1), features(classes, min(shots, MOST_VAL_SHOTS), 2)
    found: dict[str, tuple[float, float]] = {}
    seconds = [
        timed(lambda: found.update(ours=_ours(train, val)), time.process_time),
        timed(lambda: found.update(theirs=_theirs(train, val)), time.process_time),
    ]
    (c, accuracy), (their_c, their_accuracy) = found["ours"], found["theirs"]
    figures = {
        "ours s": seconds[0],
        "scikit-learn s": seconds[1],
        "C": c,
        "scikit-learn's C": their_c,
        "accuracy": accuracy,
    }
    marks = (
        Mark("times as fast", seconds[1] / seconds[0], FASTER),
        Mark("accuracies apart", abs(accuracy - their_accuracy), AGREE, at_least=False),
        Mark("C apart", abs(c / their_c - 1), 1e-9, at_least=False),
    )
    return Row("linear_probe", f"search for C, {classes} classes x {shots}", figures, marks)


def _one_fit(classes: int, shots: int, c: float = 0.316) -> Row:
    x_Bd, y_B = features(classes, shots, 1)
    found: dict[str, Tensor] = {}
    seconds = [
        timed(lambda: found.update(ours=Regression(x_Bd, y_B, classes).fit(c)[0]), time.process_time),
        timed(lambda: found.update(theirs=torch.as_tensor(reference(x_Bd, y_B, c).coef_)), time.process_time),
    ]
    apart = float((found["ours"] - found["theirs"]).norm() / found["theirs"].norm())
    marks = (
        Mark("times as fast", seconds[1] / seconds[0], FASTER),
        Mark("weights apart", apart, AGREE, at_least=False),
    )
    figures = {"ours s": seconds[0], "scikit-learn s": seconds[1]}
    return Row("linear_probe", f"one fit, C {c}, {classes} classes x {shots}", figures, marks)


def features(classes: int, shots: int, seed: int) -> tuple[Tensor, Tensor]:
    """Features of length 10 with a mean and a spectrum, as towers give them: clouds that overlap."""
    centre_Kd = torch.randn(classes, DIM, generator=torch.Generator().manual_seed(0))
    y_B = torch.arange(classes).repeat_interleave(shots)
    noise_Bd = torch.randn(len(y_B), DIM, generator=torch.Generator().manual_seed(seed))
    scale_d = 8 * torch.arange(1.0, DIM + 1).rsqrt()
    return 10 * F.normalize((0.3 * centre_Kd[y_B] + noise_Bd + 3) * scale_d, dim=-1), y_B


def reference(x_Bd: Tensor, y_B: Tensor, c: float) -> Any:
    """scikit-learn's `LogisticRegression` at the optimum for one C.

    Its tolerance bounds the largest entry of the gradient of the MEAN loss: it must follow C and the number of images.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    strength = c * len(y_B)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "The number of unique classes")  # one shot a class
        regression = LogisticRegression(
            C=c, solver="newton-cg", tol=min(1e-8, 1e-8 * strength, 1e-3 / strength), max_iter=1000
        )
        return regression.fit(x_Bd.double().numpy(), y_B.numpy())


def _ours(train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor]) -> tuple[float, float]:
    regression = Regression(*train, int(train[1].max()) + 1)

    def accuracy(c: float) -> float:
        weight_Kd, bias_K, _ = regression.fit(c)
        return float((F.linear(val[0].double(), weight_Kd, bias_K).argmax(dim=-1) == val[1]).double().mean())

    c = search_c(accuracy)
    return c, accuracy(c)


def _theirs(train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor]) -> tuple[float, float]:
    probe = cache(lambda c: reference(*train, c))

    def accuracy(c: float) -> float:
        return float(probe(c).score(val[0].double().numpy(), val[1].numpy()))

    c = search_c(accuracy)
    return c, accuracy(c)

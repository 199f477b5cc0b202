"""The temperature of least NLL, against SciPy's minimiser and hand calculations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from torch import Tensor

from vlmprompt.errors import InputError
from vlmprompt.predict import temperature as temperature_module
from vlmprompt.predict.temperature import fit_temperature, scaled


def case(seed: int, n: int, k: int, spread: float) -> tuple[Tensor, Tensor]:
    """Logits that are right more often than not, the first of them wrong for certain."""
    generator = torch.Generator().manual_seed(seed)
    labels_N = torch.randint(k, (n,), generator=generator)
    logits_NK = torch.randn(n, k, generator=generator)
    logits_NK[torch.arange(n), labels_N] += 2.0
    logits_NK[0, labels_N[0]] = logits_NK[0].min() - 0.1
    return logits_NK * spread, labels_N


def least(logits_NK: Tensor, labels_N: Tensor) -> float:
    """By SciPy, over the logarithm of the temperature, from the definition of NLL."""
    z, own = logits_NK.double().numpy(), logits_NK.double().gather(1, labels_N[:, None])[:, 0].numpy()

    def nll(log_temperature: float) -> float:
        inverse = math.exp(-log_temperature)
        return float(np.mean(logsumexp(inverse * z, axis=1) - inverse * own))

    found = minimize_scalar(nll, bounds=(-12, 12), method="bounded", options={"xatol": 1e-10})
    return math.exp(found.x)


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(8, 80),
    k=st.integers(2, 9),
    spread=st.sampled_from([0.01, 0.7, 5.0, 100.0]),
)
def test_scipy_finds_the_same(seed: int, n: int, k: int, spread: float) -> None:
    logits, labels = case(seed, n, k, spread)
    assert fit_temperature(logits, labels) == pytest.approx(least(logits, labels), rel=1e-5)


def test_by_hand() -> None:
    """Logit differences d, right three times of four: least where the sigmoid of d / T is 3/4, so T = d / ln 3."""
    logits = torch.tensor([[2.5, 0.0]]).repeat(4, 1)
    assert fit_temperature(logits, torch.tensor([0, 0, 0, 1])) == pytest.approx(2.5 / math.log(3), rel=1e-9)


@given(seed=st.integers(0, 10_000), factor=st.sampled_from([0.125, 4.0, 64.0]))
def test_logits_that_are_larger_have_a_larger_temperature(seed: int, factor: float) -> None:
    logits, labels = case(seed, 30, 4, 1.0)
    assert fit_temperature(logits * factor, labels) == pytest.approx(factor * fit_temperature(logits, labels), rel=1e-8)


def test_nothing_else_can_be_done_better() -> None:
    """NLL rises on both sides; predictions stay."""
    logits, labels = case(3, 50, 5, 20.0)
    best = fit_temperature(logits, labels)
    values = [
        float(torch.nn.functional.cross_entropy(scaled(logits, best * factor), labels)) for factor in (0.99, 1, 1.01, 9)
    ]
    assert values[1] == min(values) < float(torch.nn.functional.cross_entropy(logits.double(), labels))
    assert torch.equal(scaled(logits, best).argmax(dim=1), logits.argmax(dim=1))


def test_equal_logits_give_equal_bits_in_any_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = case(7, 60, 6, 3.0)
    found = fit_temperature(logits, labels)
    assert fit_temperature(logits.clone(), labels.clone()) == found
    monkeypatch.setattr(temperature_module, "ROWS", 7)
    assert fit_temperature(logits, labels) == pytest.approx(found, rel=1e-12)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([[2.0, 1.0], [0.0, 0.5]], [0, 1], "all 2 images are told right"),
        ([[2.0, 1.0], [0.5, 0.5]], [0, 1], "all 2 images are told right"),  # equal logits count as right
        ([[2.0, 1.0], [0.0, 0.5]], [1, 0], "no better than chance"),
        ([[1.0, 0.0], [1.0, 0.0]], [0, 1], "no better than chance"),
        ([[math.inf, 0.0]], [0], "not finite"),
    ],
)
def test_where_no_temperature_is_best(logits: list[list[float]], labels: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_temperature(torch.tensor(logits), torch.tensor(labels))


def test_nothing_is_fitted_on_no_images() -> None:
    with pytest.raises(InputError, match="no images"):
        fit_temperature(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))

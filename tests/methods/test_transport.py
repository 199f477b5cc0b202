"""Transport plans: against POT, in any batch, at any lambda, and what happens at the edges."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import ot
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from vlmprompt.api import TransportCaps, UsageError, transport_plan
from vlmprompt.methods import transport_problems, transport_steps


def features(*shape: int, seed: int = 0, spread: float = 1.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Unit vectors around a common direction, as CLIP's are: the smaller the spread, the more alike."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.ones(shape[-1], dtype=dtype)
    return F.normalize(direction + spread * torch.randn(shape, generator=generator, dtype=dtype) * 3, dim=-1)


def both(B: int, K: int, N: int, M: int, seed: int = 0, **options: Any) -> tuple[Tensor, Tensor]:
    return features(B, N, 32, seed=seed, **options), features(K, M, 32, seed=seed + 1, **options)


def by_pot(Z_Nd: Tensor, W_Md: Tensor, alpha: float, lambda_: float, p_N: Tensor | None = None) -> Tensor:
    """POT's Gromov-Wasserstein gradient is twice Algorithm 1's, so alpha and lambda have to be rescaled."""
    Z, W = Z_Nd.double().numpy(), W_Md.double().numpy()
    p = np.full(len(Z), 1 / len(Z)) if p_N is None else p_N.double().numpy()
    plan = ot.gromov.entropic_fused_gromov_wasserstein(
        1 - Z @ W.T,
        Z @ Z.T,
        W @ W.T,
        p,
        np.full(len(W), 1 / len(W)),
        loss_fun="square_loss",
        solver="PGD",
        symmetric=True,
        alpha=alpha / (2 - alpha),
        epsilon=2 * lambda_ / (2 - alpha),
        max_iter=200,
        tol=1e-13,
        numItermax=2000,
        stopThr=1e-13,
    )
    return torch.from_numpy(plan)


def steps(outer: int, inner: int) -> dict[str, float]:
    """Exactly so many."""
    return {"max_outer": outer, "max_inner": inner, "tol_outer": 0, "tol_inner": 0}


def plainly(Z_Nd: Tensor, W_Md: Tensor, alpha: float, lambda_: float, outer: int, inner: int) -> Tensor:
    """Algorithm 1 line by line, in fp64."""
    Z, W = Z_Nd.double().numpy(), W_Md.double().numpy()
    p, q = np.full(len(Z), 1 / len(Z)), np.full(len(W), 1 / len(W))
    C_z, C_w = Z @ Z.T, W @ W.T
    C_zw = np.outer(C_z**2 @ p, np.ones(len(W))) + np.outer(np.ones(len(Z)), C_w**2 @ q)
    T = np.outer(p, q)
    for _ in range(outer):
        K = np.exp(-(alpha * (C_zw - 2 * C_z @ T @ C_w.T) + (1 - alpha) * (1 - Z @ W.T)) / lambda_)
        b = np.ones(len(W))
        for _ in range(inner):
            a = p / (K @ b)
            b = q / (K.T @ a)
        T = a[:, None] * K * b
    return torch.from_numpy(T)


@pytest.fixture(autouse=True)
def _short_of_tolerance_is_an_error() -> Iterator[None]:
    """A problem that stops at a cap would be compared without being solved."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module="ot")
        yield


# -- values --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("alpha", "lambda_"), [(0.0, 0.1), (0.2, 0.1), (0.2, 0.05), (0.5, 0.1), (0.8, 0.2), (1.0, 0.1)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_plan_of_a_batch_is_pots(alpha, lambda_, dtype):
    Z_BNd, W_KMd = both(2, 3, 16, 4, dtype=dtype)
    plans = transport_plan(Z_BNd, W_KMd, alpha=alpha, lambda_=lambda_, max_outer=200, max_inner=2000)
    for b, k in np.ndindex(2, 3):
        expected = by_pot(Z_BNd[b], W_KMd[k], alpha, lambda_)
        error = (plans[b, k] - expected).abs().max()
        # Edges alone converge slowly: what is left when a step moves T by 5e-6 is several times that.
        bound = (5e-5 if alpha == 1 else 1e-5) if dtype == torch.float32 else 1e-10
        assert error <= bound * expected.max()


def test_position_weights():
    Z_BNd, W_KMd = both(2, 2, 12, 3, dtype=torch.float64)
    p_BN = torch.rand(2, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) + 0.1
    p_BN /= p_BN.sum(dim=1, keepdim=True)
    plans = transport_plan(Z_BNd, W_KMd, alpha=0.3, lambda_=0.1, p_BN=p_BN, max_outer=100)
    torch.testing.assert_close(plans.sum(dim=-1), p_BN[:, None].expand(-1, 2, -1), atol=1e-12, rtol=0)
    torch.testing.assert_close(plans[1, 0], by_pot(Z_BNd[1], W_KMd[0], 0.3, 0.1, p_BN[1]), atol=1e-10, rtol=0)


@pytest.mark.parametrize("lambda_", [0.1, 0.03])
def test_positions_without_weight_are_as_if_they_were_not_there(lambda_):
    Z_BNd, W_KMd = both(2, 2, 12, 3, dtype=torch.float64)
    p_BN = torch.zeros(2, 12, dtype=torch.float64)
    p_BN[:, ::2] = 1 / 6
    solve = steps(3, 40) | {"alpha": 0.2, "lambda_": lambda_}
    plans = transport_plan(Z_BNd, W_KMd, p_BN=p_BN, **solve)
    torch.testing.assert_close(plans[:, :, ::2], transport_plan(Z_BNd[:, ::2], W_KMd, **solve), atol=1e-13, rtol=0)
    assert not plans[:, :, 1::2].any()


def test_prompts_that_depend_on_the_image():
    Z_BNd, W_KMd = both(3, 2, 9, 4)
    W_BKMd = torch.stack([W_KMd, features(2, 4, 32, seed=7), features(2, 4, 32, seed=8)])
    plans = transport_plan(Z_BNd, W_BKMd, alpha=0.2, lambda_=0.1)
    alone = [transport_plan(Z_BNd[b : b + 1], W_BKMd[b], alpha=0.2, lambda_=0.1)[0] for b in range(3)]
    torch.testing.assert_close(plans, torch.stack(alone), atol=1e-8, rtol=0)


# -- marginals, batches, parts -------------------------------------------------------------------------
shapes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(2, 30), st.integers(1, 6))


@settings(max_examples=25)
@given(
    shape=shapes,
    seed=st.integers(0, 2**31),
    spread=st.floats(0.05, 0.6),
    alpha=st.floats(0, 1),
    lambda_=st.floats(0.05, 1),
    fine=st.booleans(),
)
def test_marginals(shape, seed, spread, alpha, lambda_, fine):
    """Rows within 1e-6 in fp32 and 1e-12 in fp64; the last Sinkhorn step leaves the columns exact."""
    dtype = torch.float64 if fine else torch.float32
    Z_BNd, W_KMd = both(*shape, seed=seed, spread=spread, dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a plan that still moves has right rows all the same
        plans = transport_plan(Z_BNd, W_KMd, alpha=alpha, lambda_=lambda_, max_outer=5, max_inner=2000)
    _, _, N, M = shape
    assert plans.shape == shape
    assert (plans >= 0).all()
    assert (plans.double().sum(dim=-1) - 1 / N).abs().sum(dim=-1).max() < (1e-12 if fine else 1e-6)
    assert (plans.double().sum(dim=-2) - 1 / M).abs().max() < (1e-14 if fine else 1e-6)


@settings(max_examples=20)
@given(
    shape=shapes,
    seed=st.integers(0, 2**31),
    alpha=st.sampled_from([0.0, 0.2, 0.5]),
    fine=st.booleans(),
    shuffle=st.randoms(use_true_random=False),
)
@example(
    shape=(1, 2, 14, 2), seed=269, alpha=0.5, fine=False, shuffle=random.Random(0)
)  # on the edge of rest by default
@example(shape=(3, 4, 9, 3), seed=0, alpha=0.5, fine=True, shuffle=random.Random(0))
def test_a_plan_does_not_depend_on_its_batch(shape, seed, alpha, fine, shuffle):
    """The same plan alone, in the batch, and in another order of images and classes."""
    B, K, N, _ = shape
    Z_BNd, W_KMd = both(*shape, seed=seed, dtype=torch.float64 if fine else torch.float32)
    tolerance = 1e-12 if fine else 1e-6
    solve = {"alpha": alpha, "lambda_": 0.1, "max_inner": 2000, "caps": TransportCaps(inner=1), "tol_outer": tolerance}
    plans = transport_plan(Z_BNd, W_KMd, **solve)
    b, k = shuffle.randrange(B), shuffle.randrange(K)
    alone = transport_plan(Z_BNd[b : b + 1], W_KMd[k : k + 1], **solve)[0, 0]
    images, classes = shuffle.sample(range(B), B), shuffle.sample(range(K), K)
    other = transport_plan(Z_BNd[images], W_KMd[classes], **solve)
    # Rounding depends on the batch, and may decide in which step a plan rests that moves by just its tolerance. That is
    # relative to the largest entry, which is 1/N at most, and by default larger in fp32 than what is asked for here.
    close = {"atol": tolerance / N, "rtol": 0}
    torch.testing.assert_close(alone, plans[b, k], **close)
    torch.testing.assert_close(other, plans[images][:, classes], **close)


@pytest.mark.parametrize("entries", [1, 200, 500])
def test_parts_of_the_label_space(monkeypatch, entries):
    Z_BNd, W_KMd = both(3, 7, 10, 4)
    whole = transport_plan(Z_BNd, W_KMd, alpha=0.2, lambda_=0.1)
    monkeypatch.setitem(transport_problems.PART_ENTRIES, "cpu", entries)
    torch.testing.assert_close(transport_plan(Z_BNd, W_KMd, alpha=0.2, lambda_=0.1), whole, atol=1e-8, rtol=0)


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation gave."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


def test_nothing_is_held_for_each_pair_of_positions_and_classes(monkeypatch):
    B, K, N, M = 2, 20, 40, 3
    monkeypatch.setitem(transport_problems.PART_ENTRIES, "cpu", 2000)
    with Largest() as largest:
        transport_plan(*both(B, K, N, M), alpha=0.2, lambda_=0.1)
    assert largest.numel == max(B * K * N * M, B * N * N)


class Waits(TorchDispatchMode):
    """Counts where a device would be waited for: a value or a number of values that the host asks for."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        if func == torch.ops.aten.index.Tensor:
            self.count += any(index is not None and index.dtype == torch.bool for index in args[1])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("outer", [5, 10])
def test_the_device_is_waited_for_once_an_outer_step(outer):
    """Beside the looks of the last balance, the halvings of 12 problems, of three waits each, and two totals."""
    with Waits() as waits:
        transport_plan(
            *both(3, 4, 20, 4, spread=0.5), alpha=0.5, lambda_=0.1, max_outer=outer, caps=TransportCaps(1, 1)
        )
    assert 0 < waits.count <= outer + 12


def test_a_few_iterations_a_step_lead_to_the_plan_of_all_of_them(monkeypatch):
    Z_BNd, W_KMd = both(2, 5, 20, 4, spread=0.5, dtype=torch.float64)
    plans = transport_plan(Z_BNd, W_KMd, alpha=0.3, lambda_=0.08, max_outer=200)
    monkeypatch.setattr(transport_steps, "STEPS", 2000)
    expected = transport_plan(Z_BNd, W_KMd, alpha=0.3, lambda_=0.08, max_outer=200)
    torch.testing.assert_close(plans, expected, atol=1e-12, rtol=0)


# -- lambda --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("lambda_", [0.049, 0.02, 0.01])
@pytest.mark.parametrize("alpha", [0.0, 0.2, 1.0])
def test_small_lambda_is_finite(lambda_, alpha):
    """Down to where exp(-C / lambda) is zero in fp32 for most entries; columns stay exact."""
    Z_BNd, W_KMd = both(2, 3, 25, 4, spread=3.0)
    W_KMd = W_KMd.clone()
    W_KMd[0, 0], W_KMd[0, 1] = -Z_BNd[0, 0], Z_BNd[0, 0]  # cosines of -1 and 1
    plans = transport_plan(Z_BNd, W_KMd, alpha=alpha, lambda_=lambda_, caps=TransportCaps(inner=1))
    assert plans.isfinite().all() and (plans >= 0).all()
    torch.testing.assert_close(plans.sum(dim=-2), torch.full((2, 3, 4), 0.25), atol=1e-5, rtol=0)


@pytest.mark.parametrize("lambda_", [0.04, 0.02, 0.01])
@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_logarithms_change_no_plan(lambda_, alpha):
    """After the same numbers of steps, against exp(-C / lambda) in fp64, which reaches that far."""
    Z_BNd, W_KMd = both(2, 2, 16, 4, spread=0.3)
    expected = plainly(Z_BNd[1], W_KMd[0], alpha, lambda_, 3, 60)
    ours = transport_plan(Z_BNd, W_KMd, alpha=alpha, lambda_=lambda_, **steps(3, 60))[1, 0]
    assert (ours - expected).abs().max() <= 3e-5 * expected.max()
    fine = transport_plan(Z_BNd.double(), W_KMd.double(), alpha=alpha, lambda_=lambda_, **steps(3, 60))[1, 0]
    torch.testing.assert_close(fine, expected, atol=1e-13, rtol=0)


def test_factors_that_outgrow_the_kernel_are_moved_into_it():
    """All rows prefer one column by far, so that its factor has to fall by e^-150."""
    Z_Nd = F.normalize(torch.tensor([[1.0, 0, 0], [1, 0.02, 0], [1, 0, 0.02], [1, 0.01, 0.01]]), dim=-1)
    W_Md = torch.eye(3)[[0, 1]]
    ours = transport_plan(Z_Nd[None], W_Md[None], alpha=0, lambda_=0.006, **steps(1, 100))[0, 0]
    expected = plainly(Z_Nd, W_Md, 0, 0.006, 1, 100)
    assert (ours - expected).abs().max() < 1e-4
    assert expected.max() > 0.2  # not the uniform plan, 1/8 everywhere


# -- what does nothing ---------------------------------------------------------------------------------
@pytest.mark.parametrize("alpha", [0.0, 0.2, 1.0])
def test_one_prompt_gives_the_uniform_plan(alpha):
    plans = transport_plan(*both(2, 3, 9, 1), alpha=alpha, lambda_=0.1)
    torch.testing.assert_close(plans, torch.full((2, 3, 9, 1), 1 / 9), atol=1e-8, rtol=0)


def test_edges_alone_do_nothing_between_two_prompts():
    """The rows of C_w have equal sums, so T stays p q^T; with three they do not, and it does not."""
    two = transport_plan(*both(2, 3, 9, 2), alpha=1, lambda_=0.1)
    torch.testing.assert_close(two, torch.full((2, 3, 9, 2), 1 / 18), atol=1e-7, rtol=0)
    three = transport_plan(*both(2, 3, 9, 3), alpha=1, lambda_=0.02, caps=TransportCaps(inner=1))
    assert (three - 1 / 27).abs().max() > 1e-3


# -- gradients -----------------------------------------------------------------------------------------
def test_the_plan_is_a_constant_unless_asked_for():
    Z_BNd, W_KMd = both(1, 2, 6, 3)
    W_KMd.requires_grad_()
    assert not transport_plan(Z_BNd, W_KMd, alpha=0.2, lambda_=0.1).requires_grad
    assert transport_plan(Z_BNd, W_KMd, alpha=0.2, lambda_=0.1, differentiable=True).requires_grad
    with torch.no_grad():
        assert not transport_plan(Z_BNd, W_KMd, alpha=0.2, lambda_=0.1, differentiable=True).requires_grad


@pytest.mark.parametrize(("alpha", "lambda_"), [(0.0, 0.1), (0.4, 0.1), (0.3, 0.04)])
def test_gradient_through_all_iterations(alpha, lambda_):
    Z_BNd = features(2, 5, 4, dtype=torch.float64)
    W_KMd = features(1, 3, 4, seed=1, dtype=torch.float64).requires_grad_()

    def plan(W_KMd: Tensor) -> Tensor:
        return transport_plan(Z_BNd, W_KMd, alpha=alpha, lambda_=lambda_, **steps(2, 10), differentiable=True)

    assert torch.autograd.gradcheck(plan, W_KMd, eps=1e-6, atol=1e-6)


# -- settings ------------------------------------------------------------------------------------------
def test_half_precision_and_autocast_are_solved_in_fp32():
    Z_BNd, W_KMd = both(2, 2, 9, 4)
    expected = transport_plan(Z_BNd, W_KMd, alpha=0.2, lambda_=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(transport_plan(Z_BNd, W_KMd, alpha=0.2, lambda_=0.1), expected)
    half = transport_plan(Z_BNd.bfloat16(), W_KMd.bfloat16(), alpha=0.2, lambda_=0.1)
    assert half.dtype == torch.float32
    widened = transport_plan(Z_BNd.bfloat16().float(), W_KMd.bfloat16().float(), alpha=0.2, lambda_=0.1)
    assert torch.equal(half, widened)


def test_caps_are_counted_and_warned_about_once():
    caps = TransportCaps()
    with pytest.warns(UserWarning, match="6 after 2 Sinkhorn iterations and 6 after 1 outer steps, of 6 ") as caught:
        for _ in range(3):
            transport_plan(*both(2, 3, 9, 4), alpha=0.2, lambda_=0.1, max_outer=1, max_inner=2, caps=caps)
    assert len(caught) == 1
    assert (caps.problems, caps.inner, caps.outer) == (18, 18, 18)
    transport_plan(*both(2, 3, 9, 4), alpha=0.2, lambda_=0.1, caps=caps)
    assert (caps.problems, caps.inner, caps.outer) == (24, 18, 18)


def test_tolerances_of_zero_ask_for_the_caps():
    caps = TransportCaps()
    transport_plan(*both(1, 1, 9, 4), alpha=0.2, lambda_=0.1, **steps(2, 3), caps=caps)
    assert (caps.inner, caps.outer) == (0, 0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"alpha": 1.1}, "alpha = 1.1"),
        ({"lambda_": 0}, "lambda = 0"),
        ({"stop": "never"}, "stop = 'never', which must be one of marginal, plot"),
        ({"max_inner": 0}, "max_inner = 0"),
        ({"tol_outer": -1}, "tol_outer = -1"),
    ],
)
def test_settings_out_of_range(wrong, said):
    with pytest.raises(UsageError, match=said):
        transport_plan(*both(1, 1, 4, 2), **({"alpha": 0.2, "lambda_": 0.1} | wrong))

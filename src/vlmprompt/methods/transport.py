"""Transport plans between local image features and prompts: Algorithm 1 of DUAL-PT, batched.

Shapes: B images, K classes (k of a part), N local positions, M prompts, d joint width, P problems, one for an
image and a class, image by image. Inside, plans lie as (P,M,N), so that the long dimension is contiguous.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from vlmprompt.errors import UsageError
from vlmprompt.methods.sinkhorn import LOGS_BELOW, Leaving, sinkhorn, sinkhorn_plot, sinkhorn_steps

Stop = Literal["marginal", "plot"]

# Entries of the plans that are worked on at once: few enough for a core's cache, many enough for an accelerator.
PART_ENTRIES = {"cpu": 2**18}
PART_ENTRIES_ACCELERATOR = 2**24
# Sinkhorn iterations of an outer step that is not the last: a plan that still moves need not be balanced to the end.
STEPS = 8


def transport_plan(
    Z_BNd: Tensor,
    W_KMd: Tensor,
    *,
    alpha: float,
    lambda_: float,
    stop: Stop = "marginal",
    max_outer: int | None = None,
    max_inner: int | None = None,
    tol_outer: float | None = None,
    tol_inner: float | None = None,
    p_BN: Tensor | None = None,
    differentiable: bool = False,
    caps: TransportCaps | None = None,
) -> Tensor:
    """Plans T of all images and classes: how much of each local position goes to each prompt.

    With C_WD = 1 - Z W^T, C_z = Z Z^T, C_w = W W^T and C_zw = (C_z^2 p) 1^T + 1 (C_w^2 q)^T (squares of
    entries), from T = p q^T on, an outer step takes C = alpha (C_zw - 2 C_z T C_w^T) + (1 - alpha) C_WD and from
    b = 1 on iterates a = p / (K b), b = q / (K^T a) with K = exp(-C / lambda); then T = diag(a) K diag(b). Unless
    tolerances are 0, later outer steps begin with the last b, and those before the end make a few iterations.
    C_z is held once an image, C_w once a class, and classes are worked on in parts.

    DUAL-PT (Hu et al., AAAI 2024), Algorithm 1, its slips mended: p has N entries and q = 1/M has M, b (not a)
    starts at one, the first T is p q^T, and C_zw is that of Peyre et al. (2016). With alpha 0 this is PLOT's plan.
    At the fixed point T minimises (1 - alpha) <T, C_WD> + alpha/2 GW(T) - lambda H(T).

    Args:
        Z_BNd: local features, L2-normalised. fp64 is computed in fp64, anything else in fp32.
        W_KMd: text features of the prompts, L2-normalised; (B,K,M,d) where they depend on the image.
        alpha: weight of edges (Gromov-Wasserstein) against nodes (Wasserstein), 0 to 1.
        lambda_: strength of the entropy term; below 0.05 kernels are held as logarithms.
        stop: "marginal": a problem goes on until its own row sums are right, so that no plan depends on the
            batch that it is in; "plot": PLOT's rule, the mean change of a over the whole batch, which is there
            for comparison with its code.
        max_outer: most outer steps; default 10, and 100 where alpha > 0.5. With alpha 0 there is one.
        max_inner: most Sinkhorn iterations of an outer step; default 200, in float64 2000, for "plot" 100.
        tol_outer: a plan is at rest when a step moves no entry by this times its largest; default 5e-6 (fp64:
            1e-12).
        tol_inner: sum of the absolute errors of a plan's row sums; default 1e-6 (fp64: 1e-12). For "plot" the
            mean change of a; default 1e-2. A tolerance of 0 takes all steps that the caps allow.
        p_BN: weights of the positions, not negative, summing to one; default 1/N.
        differentiable: let gradients run through all iterations, at the memory of all of them; by default T is
            a constant, as in PLOT.
        caps: counts the problems that a cap stopped over several calls; default: over this one.

    Returns:
        (B,K,N,M). Columns sum to 1/M, rows to p.

    Raises:
        UsageError: a setting is out of its range.
    """
    dtype = torch.promote_types(torch.promote_types(Z_BNd.dtype, W_KMd.dtype), torch.float32)
    rules = _rules(dtype, alpha, lambda_, stop, max_outer, max_inner, tol_outer, tol_inner)
    grad = torch.set_grad_enabled(differentiable and torch.is_grad_enabled())
    with grad, torch.autocast(Z_BNd.device.type, enabled=False):
        Z_BNd, W_KMd = Z_BNd.to(dtype), W_KMd.to(dtype)
        p_BN = Z_BNd.new_full(Z_BNd.shape[:2], 1 / Z_BNd.shape[1]) if p_BN is None else p_BN.to(Z_BNd)
        solved = [_solve(problems, rules) for problems in _parts(Z_BNd, W_KMd, p_BN, rules)]
        T_BKMN = torch.cat([part.T_PMN.unflatten(0, (len(Z_BNd), -1)) for part in solved], dim=1)
    (TransportCaps() if caps is None else caps).add(solved, rules)
    return T_BKMN.mT


@dataclass(frozen=True)
class _Rules:
    alpha: float
    lambda_: float
    stop: Stop
    max_outer: int
    max_inner: int
    tol_outer: float
    tol_inner: float


def _rules(
    dtype: torch.dtype,
    alpha: float,
    lambda_: float,
    stop: Stop,
    max_outer: int | None,
    max_inner: int | None,
    tol_outer: float | None,
    tol_inner: float | None,
) -> _Rules:
    """Settings with their defaults, checked."""
    fine, plot = dtype == torch.float64, stop == "plot"
    max_outer = (10 if alpha <= 0.5 else 100) if max_outer is None else max_outer
    max_inner = (100 if plot else 2000 if fine else 200) if max_inner is None else max_inner
    tol_outer = (1e-12 if fine else 5e-6) if tol_outer is None else tol_outer
    tol_inner = (1e-2 if plot else 1e-12 if fine else 1e-6) if tol_inner is None else tol_inner
    for setting, right in (
        (f"alpha = {alpha}, which must be 0 to 1", 0 <= alpha <= 1),
        (f"lambda = {lambda_}, which must be positive", lambda_ > 0),
        (f"stop = {stop!r}, which must be one of {', '.join(get_args(Stop))}", stop in get_args(Stop)),
        (
            f"max_outer = {max_outer} and max_inner = {max_inner}, which must be 1 or more",
            min(max_outer, max_inner) > 0,
        ),
        (
            f"tol_outer = {tol_outer} and tol_inner = {tol_inner}, which must be 0 or more",
            min(tol_outer, tol_inner) >= 0,
        ),
    ):
        if not right:
            raise UsageError(f"a transport plan cannot be had with {setting}")
    return _Rules(alpha, lambda_, stop, max_outer, max_inner, tol_outer, tol_inner)


@dataclass
class TransportCaps:
    """Counts problems that a cap stopped before their tolerance, and warns of the first ones.

    Attributes:
        problems: solved in all.
        inner: those whose last Sinkhorn iterations were cut off.
        outer: those whose plan was still moving.
    """

    problems: int = 0
    inner: int = 0
    outer: int = 0

    def add(self, solved: list[_Solved], rules: _Rules) -> None:
        """Count the problems of a call."""
        news = [sum(counts) for counts in zip(*((len(s.T_PMN), s.inner, s.outer) for s in solved), strict=True)]
        silent = not (self.inner or self.outer)
        self.problems, self.inner, self.outer = (old + new for old, new in zip(self._counts(), news, strict=True))
        if silent and (self.inner or self.outer):
            reached = {
                f"{rules.max_inner} Sinkhorn iterations": self.inner,
                f"{rules.max_outer} outer steps": self.outer,
            }
            where = " and ".join(f"{count} after {cap}" for cap, count in reached.items() if count)
            warnings.warn(
                f"transport plans short of their tolerance: {where}, of {self.problems} (said once); "
                f"higher caps or a lambda above {rules.lambda_:g} bring them there",
                stacklevel=3,
            )

    def _counts(self) -> tuple[int, int, int]:
        return self.problems, self.inner, self.outer


@dataclass(frozen=True)
class _Problems:
    """What the plans of some (image, class) pairs depend on.

    Attributes:
        fixed_PMN: the part of the cost that does not depend on the plan.
        edges_PMM: 2 alpha C_w.
        C_z_BNN: of all images.
        images_P: the image of each problem, ascending.
        p_PN: weights of the positions.
        counts: problems of each image.
    """

    fixed_PMN: Tensor
    edges_PMM: Tensor
    C_z_BNN: Tensor
    images_P: Tensor
    p_PN: Tensor
    counts: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.images_P)

    def product(self) -> Tensor:
        """p q^T: (P,M,N)."""
        return (self.p_PN / self.fixed_PMN.shape[1])[:, None].expand_as(self.fixed_PMN)

    def cost(self, T_PMN: Tensor) -> Tensor:
        """alpha (C_zw - 2 C_w T C_z) + (1 - alpha) C_WD: (P,M,N)."""
        if len(set(self.counts)) == 1:  # nobody has left
            TC_PMN = (T_PMN.unflatten(0, (len(self.counts), -1)).flatten(1, 2) @ self.C_z_BNN).view_as(T_PMN)
        else:  # one product for all problems of an image: C_z is never repeated for its classes
            parts = zip(T_PMN.split(self.counts), self.C_z_BNN, strict=True)
            TC_PMN = torch.cat([(T.flatten(0, 1) @ C_z_NN).view_as(T) for T, C_z_NN in parts])
        return torch.baddbmm(self.fixed_PMN, self.edges_PMM, TC_PMN, alpha=-1)

    def where(self, kept_P: Tensor) -> _Problems:
        """Some of them."""
        own = (x[kept_P] for x in (self.fixed_PMN, self.edges_PMM, self.images_P, self.p_PN))
        fixed_PMN, edges_PMM, images_P, p_PN = own
        counts = torch.bincount(images_P, minlength=len(self.C_z_BNN)).tolist()
        return _Problems(fixed_PMN, edges_PMM, self.C_z_BNN, images_P, p_PN, tuple(counts))


def _parts(Z_BNd: Tensor, W_KMd: Tensor, p_BN: Tensor, rules: _Rules) -> Iterator[_Problems]:
    """The problems of all images and as many classes as are worked on at once."""
    entries = PART_ENTRIES.get(Z_BNd.device.type, PART_ENTRIES_ACCELERATOR)
    size = max(1, entries // max(1, p_BN.numel() * W_KMd.shape[-2]))
    C_z_BNN = Z_BNd @ Z_BNd.mT
    spread_BN = (C_z_BNN.square() @ p_BN[..., None])[..., 0]
    # PLOT's rule looks at the whole batch at once.
    for W_kMd in W_KMd.split(W_KMd.shape[-3] if rules.stop == "plot" else size, dim=-3):
        classes = W_kMd.shape[-3]
        cosines_BkMN = (W_kMd.flatten(-3, -2) @ Z_BNd.mT).unflatten(1, W_kMd.shape[-3:-1])
        C_w_kMM = W_kMd @ W_kMd.mT
        C_zw_BkMN = spread_BN[:, None, None] + C_w_kMM.square().mean(dim=-1, keepdim=True)
        fixed_BkMN = rules.alpha * C_zw_BkMN + (1 - rules.alpha) * (1 - cosines_BkMN)
        edges_BkMM = (2 * rules.alpha * C_w_kMM).expand(len(p_BN), -1, -1, -1)
        images_P = torch.arange(len(p_BN), device=p_BN.device).repeat_interleave(classes)
        p_PN = p_BN.repeat_interleave(classes, dim=0)
        counts = (classes,) * len(p_BN)
        yield _Problems(fixed_BkMN.flatten(0, 1), edges_BkMM.flatten(0, 1), C_z_BNN, images_P, p_PN, counts)


@dataclass(frozen=True)
class _Solved:
    """Plans, and how many of them an inner and an outer cap stopped."""

    T_PMN: Tensor
    inner: int
    outer: int


def _solve(problems: _Problems, rules: _Rules) -> _Solved:
    """Outer steps; a plan that has come to rest is not touched again."""
    done = Leaving(len(problems), problems.p_PN.device)
    last = rules.max_outer if rules.alpha > 0 else 1  # without edges the cost does not depend on the plan
    state = _Plans.start(problems)
    for step in range(1, last + 1):
        cost_PMN = problems.cost(state.T_PMN) if rules.alpha > 0 else problems.fixed_PMN
        state = state.after(cost_PMN, problems.p_PN, rules, last=step == last)
        moving = int(len(problems) - state.resting_P.sum()) if step < last else 0
        if not moving:
            done.take_all(state.T_PMN, state.balanced_P, state.resting_P)
            break
        if moving <= len(problems) // 2:
            kept_P = done.take(state.resting_P, state.T_PMN, state.balanced_P, state.resting_P)
            problems, state = problems.where(kept_P), state.where(kept_P)
            moving = len(problems)
        state = replace(state, any_rests=moving < len(problems))
    T_PMN, balanced_P, resting_P = done.sorted()
    # Where a tolerance is 0, its cap is what was asked for.
    inner, outer = (rules.tol_inner > 0) & ~balanced_P, (rules.tol_outer > 0) & ~resting_P
    return _Solved(T_PMN, int(inner.sum()), int(outer.sum()))


@dataclass(frozen=True)
class _Plans:
    """Plans between two outer steps.

    Attributes:
        balanced_P: whether a plan's rows reached their tolerance.
        resting_P: whether its last step moved it by no more than the tolerance.
        b_PM: factors of the columns that the last Sinkhorn iterations ended with; None before the first ones.
        any_rests: whether any plan is at rest.
    """

    T_PMN: Tensor
    balanced_P: Tensor
    resting_P: Tensor
    b_PM: Tensor | None = None
    any_rests: bool = False

    @classmethod
    def start(cls, problems: _Problems) -> _Plans:
        none_P = torch.zeros(len(problems), dtype=torch.bool, device=problems.p_PN.device)
        return cls(problems.product(), none_P, none_P)

    def after(self, cost_PMN: Tensor, p_PN: Tensor, rules: _Rules, *, last: bool) -> _Plans:
        """One step later, those at rest as they were."""
        T_PMN, balanced_P, b_PM = _balance(cost_PMN, p_PN, rules, self.b_PM, last=last)
        moved_P = (T_PMN - self.T_PMN).abs().amax(dim=(1, 2))
        resting_P = (moved_P < rules.tol_outer * T_PMN.amax(dim=(1, 2))) | (rules.alpha == 0)
        if not last and rules.tol_inner > 0 and rules.stop == "marginal":
            resting_P = resting_P & balanced_P
        if self.any_rests:
            T_PMN = torch.where(self.resting_P[:, None, None], self.T_PMN, T_PMN)
            balanced_P = torch.where(self.resting_P, self.balanced_P, balanced_P)
        return _Plans(T_PMN, balanced_P, self.resting_P | resting_P, b_PM)

    def where(self, kept_P: Tensor) -> _Plans:
        """Some of them."""
        assert self.b_PM is not None
        T_PMN, balanced_P, resting_P, b_PM = (
            x[kept_P] for x in (self.T_PMN, self.balanced_P, self.resting_P, self.b_PM)
        )
        return _Plans(T_PMN, balanced_P, resting_P, b_PM)


def _balance(
    cost_PMN: Tensor, p_PN: Tensor, rules: _Rules, b_PM: Tensor | None, *, last: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Plans of fixed costs, which of them reached their tolerance, and their factors of columns.

    Until the last step a few iterations do, as the next step's costs are nearly the same and its iterations begin where
    these ended: a plan rests once it neither moves nor has wrong rows. Where steps are counted, by a tolerance of 0,
    all iterations are made and each step begins anew, as Algorithm 1 does.

    Args:
        b_PM: of the step before; None in the first.
    """
    if not last and rules.tol_inner > 0 and rules.stop == "marginal" and rules.lambda_ >= LOGS_BELOW:
        return sinkhorn_steps(
            cost_PMN,
            p_PN,
            lambda_=rules.lambda_,
            tolerance=rules.tol_inner,
            steps=min(STEPS, rules.max_inner),
            b_PM=b_PM,
        )
    limits: dict[str, Any] = {
        "lambda_": rules.lambda_,
        "tolerance": rules.tol_inner,
        "max_steps": rules.max_inner,
    }
    if rules.stop == "plot":
        T_PMN, settled_P = sinkhorn_plot(cost_PMN, p_PN, **limits)
        return T_PMN, settled_P, T_PMN[..., 0]
    return sinkhorn(cost_PMN, p_PN, **limits, b_PM=b_PM if rules.tol_inner > 0 else None)

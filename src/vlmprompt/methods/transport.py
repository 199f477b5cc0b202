"""Transport plans between local image features and prompts: Algorithm 1 of DUAL-PT, batched.

Shapes: B images, K classes (k of a part), N local positions, M prompts, d joint width, P problems, one for an
image and a class, image by image. Inside, plans lie as (P,M,N), so that the long dimension is contiguous.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from vlmprompt.methods.transport_problems import parts_of
from vlmprompt.methods.transport_rules import Rules, Stop, rules_of
from vlmprompt.methods.transport_steps import Solved, solve


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
            batch that it is in by more than its tolerances; "plot": PLOT's rule, the mean change of a over the
            whole batch, which is there for comparison with its code.
        max_outer: most outer steps; default 20, and 100 where alpha > 0.5. With alpha 0 there is one.
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
    # At least fp32, also under autocast: exp(-C / lambda) magnifies an error of C by 1 / lambda.
    dtype = torch.promote_types(torch.promote_types(Z_BNd.dtype, W_KMd.dtype), torch.float32)
    rules = rules_of(dtype, alpha, lambda_, stop, max_outer, max_inner, tol_outer, tol_inner)
    # A caller without gradients stays without them, whatever `differentiable` says.
    grad = torch.set_grad_enabled(differentiable and torch.is_grad_enabled())
    with grad, torch.autocast(Z_BNd.device.type, enabled=False):
        Z_BNd, W_KMd = Z_BNd.to(dtype), W_KMd.to(dtype)
        p_BN = Z_BNd.new_full(Z_BNd.shape[:2], 1 / Z_BNd.shape[1]) if p_BN is None else p_BN.to(Z_BNd)
        # Some classes at a time, each part to its end: no plan depends on other problems, except with PLOT's rule, for
        # which `parts_of` gives one part.
        solved = [solve(problems, rules) for problems in parts_of(Z_BNd, W_KMd, p_BN, rules)]
        # Problems lie image by image, and a part holds some classes of every image: (B*k,M,N) is (B,k,M,N), and parts
        # are joined along the classes.
        T_BKMN = torch.cat([part.T_PMN.unflatten(0, (len(Z_BNd), -1)) for part in solved], dim=1)
    (TransportCaps() if caps is None else caps).add(solved, rules)
    # Only a view: in memory plans stay (M,N), with the long dimension contiguous.
    return T_BKMN.mT


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

    def add(self, solved: list[Solved], rules: Rules) -> None:
        """Count the problems of a call."""
        # Counts are Python numbers by now: `solve` has waited for the device already.
        news = [sum(counts) for counts in zip(*((len(s.T_PMN), s.inner, s.outer) for s in solved), strict=True)]
        # Warned of once for each `TransportCaps`, of which a method may keep one for all its batches.
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

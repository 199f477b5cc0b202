"""The steps of Algorithm 1: costs of the plans there are, plans of these costs, until they rest.

Shapes: see `transport`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vlmprompt.methods.sinkhorn import LOGS_BELOW, Leaving, sinkhorn, sinkhorn_plot, sinkhorn_steps
from vlmprompt.methods.transport_problems import Problems
from vlmprompt.methods.transport_rules import Rules

# Sinkhorn iterations of an outer step that is not the last: a plan that still moves need not be balanced to the end. In
# nearly all settings that were tried (lambda 0.05 to 0.2, alpha 0.2 to 0.8) plans took as many outer steps as with 8.
STEPS = 4


@dataclass(frozen=True)
class Solved:
    """Plans, and how many of them an inner and an outer cap stopped."""

    T_PMN: Tensor
    inner: int
    outer: int


def solve(problems: Problems, rules: Rules) -> Solved:
    """Outer steps; a plan that has come to rest is not touched again."""
    done = Leaving(len(problems), problems.p_PN.device)
    last = rules.max_outer if rules.alpha > 0 else 1  # without edges the cost does not depend on the plan
    state = _Plans.start(problems)
    for step in range(1, last + 1):
        # C_WD alone where there are no edges: `cost` would add products with zero.
        cost_PMN = problems.cost(state.T_PMN) if rules.alpha > 0 else problems.fixed_PMN
        state = state.after(cost_PMN, problems.p_PN, rules, last=step == last)
        # `int` waits for the device; after the last step there is nothing to decide by it.
        moving = int(len(problems) - state.resting_P.sum()) if step < last else 0
        if not moving:
            done.take_all(state.T_PMN, state.balanced_P, state.resting_P)
            break
        # As in `sinkhorn`: taking out problems copies the rest, which pays once half of them are at rest.
        if moving <= len(problems) // 2:
            kept_P = done.take(state.resting_P, state.T_PMN, state.balanced_P, state.resting_P)
            problems, state = problems.where(kept_P), state.where(kept_P)
            moving = len(problems)
        state = replace(state, any_rests=moving < len(problems))
    T_PMN, balanced_P, resting_P = done.sorted()
    # Where a tolerance is 0, its cap is what was asked for.
    inner, outer = (rules.tol_inner > 0) & ~balanced_P, (rules.tol_outer > 0) & ~resting_P
    return Solved(T_PMN, int(inner.sum()), int(outer.sum()))


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
    def start(cls, problems: Problems) -> _Plans:
        none_P = torch.zeros(len(problems), dtype=torch.bool, device=problems.p_PN.device)
        return cls(problems.product(), none_P, none_P)

    def after(self, cost_PMN: Tensor, p_PN: Tensor, rules: Rules, *, last: bool) -> _Plans:
        """One step later, those at rest as they were."""
        T_PMN, balanced_P, b_PM = _balance(cost_PMN, p_PN, rules, self.b_PM, last=last)
        # Relative to the largest entry: entries are about 1 / (N M), too small for one absolute threshold.
        moved_P = (T_PMN - self.T_PMN).abs().amax(dim=(1, 2))
        resting_P = (moved_P < rules.tol_outer * T_PMN.amax(dim=(1, 2))) | (rules.alpha == 0)
        # Few iterations in an early step can move a plan little though its rows are still wrong: that is no rest.
        if not last and rules.tol_inner > 0 and rules.stop == "marginal":
            resting_P = resting_P & balanced_P
        # Those at rest were computed along with the others; their plans stay what they were, bit by bit.
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
    cost_PMN: Tensor, p_PN: Tensor, rules: Rules, b_PM: Tensor | None, *, last: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Plans of fixed costs, which of them reached their tolerance, and their factors of columns.

    Until the last step a few iterations do, as the next step's costs are nearly the same and its iterations begin where
    these ended: a plan rests once it neither moves nor has wrong rows. Where steps are counted, by a tolerance of 0,
    all iterations are made (and where iterations are, each step begins anew), as in Algorithm 1.

    Args:
        b_PM: of the step before; None in the first.
    """
    counted = rules.tol_inner == 0 or rules.tol_outer == 0
    if not (last or counted) and rules.stop == "marginal" and rules.lambda_ >= LOGS_BELOW:
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
        return (
            T_PMN,
            settled_P,
            T_PMN[..., 0],
        )  # in the place and shape of b, and not read: PLOT's rule starts each step anew
    return sinkhorn(cost_PMN, p_PN, **limits, b_PM=b_PM if rules.tol_inner > 0 else None)

"""Plans of fixed costs by Sinkhorn's iterations, many problems at once, each to its own tolerance.

Shapes: P problems, M columns (prompts), N rows (local positions). Tensors lie as (P,M,N), so that the long
dimension is contiguous; columns weigh 1/M each, rows p.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

# Iterations between looks at the marginals.
BLOCK = 4
# Below this lambda, exp(-C / lambda) leaves fp32's range.
LOGS_BELOW = 0.05
# Largest log of a factor before it goes into the kernel; a block changes it by log(N M) * BLOCK at most.
FAR = 16.0


def sinkhorn(
    cost_PMN: Tensor, p_PN: Tensor, *, lambda_: float, tolerance: float, max_steps: int
) -> tuple[Tensor, Tensor]:
    """Iterate a = p / (K b), b = q / (K^T a) from b = 1 on, with K = exp(-C / lambda).

    Args:
        p_PN: weights of the rows, not negative; each problem's sum to one.
        lambda_: below 0.05 the kernel is held as a logarithm and large factors are moved into it.
        tolerance: of the sum of absolute errors of a problem's row sums.

    Returns:
        diag(a) K diag(b), whose columns are exact: (P,M,N); and which problems met their tolerance: (P,).
    """
    in_logs = lambda_ < LOGS_BELOW
    # The least cost of a row can go: it changes a, but neither b nor the plan, and leaves a one in each row.
    log_K_PMN = (cost_PMN.amin(dim=1, keepdim=True).detach() - cost_PMN) / lambda_
    left = max_steps
    if in_logs:
        log_K_PMN, left = _step_in_logs(log_K_PMN, p_PN), left - 1
    state = _Scaling.start(log_K_PMN, p_PN)
    met_P = torch.zeros(len(p_PN), dtype=torch.bool, device=p_PN.device)
    done = Leaving(len(p_PN), p_PN.device)
    while len(met_P):
        state, left = state.after(min(BLOCK, left)), left - BLOCK
        # A problem leaves one block after it met its tolerance: rounding decides where a threshold is crossed, and
        # rounding may depend on the rest of the batch; by then the difference that this makes is gone.
        leaving_P = met_P if left > 0 else torch.ones_like(met_P)
        met_P = met_P | (state.row_errors() < tolerance)
        if leaving_P.any():
            done.take(leaving_P, state.plan(), met_P)
            state, met_P = state.where(~leaving_P), met_P[~leaving_P]
        if in_logs:
            state = state.absorbed()
    plans_PMN, met_P = done.sorted()
    return plans_PMN, met_P


def sinkhorn_plot(
    cost_PMN: Tensor, p_PN: Tensor, *, lambda_: float, tolerance: float, max_steps: int
) -> tuple[Tensor, Tensor]:
    """PLOT's code: the same iterations until the mean change of all a in the batch is below the tolerance."""
    state = _Scaling.start(-cost_PMN / lambda_, p_PN)
    settled = False
    for _ in range(max_steps):
        before_PN, state = state.a_PN, state.after(1)
        settled = bool((state.a_PN - before_PN).abs().mean() < tolerance)
        if settled:
            break
    return state.plan(), torch.full((len(p_PN),), settled, device=p_PN.device)


@dataclass(frozen=True)
class _Scaling:
    """A kernel and its factors."""

    log_K_PMN: Tensor
    K_PMN: Tensor
    a_PN: Tensor
    b_PM: Tensor
    p_PN: Tensor

    @classmethod
    def start(cls, log_K_PMN: Tensor, p_PN: Tensor) -> _Scaling:
        ones_PM = log_K_PMN.new_ones(log_K_PMN.shape[:2])
        return cls(log_K_PMN, log_K_PMN.exp(), torch.ones_like(p_PN), ones_PM, p_PN)

    def _row_sums(self, b_PM: Tensor) -> Tensor:
        # Products and sums, no matrix product: for matrices this slim it is faster, and each problem's
        # result has the same bits in any batch.
        # A position without weight has an empty row once its weight is in the kernel: 0 / 0 must be 0.
        return (self.K_PMN * b_PM[:, :, None]).sum(dim=1).clamp_min(torch.finfo(b_PM.dtype).tiny)

    def after(self, steps: int) -> _Scaling:
        a_PN, b_PM, q = self.a_PN, self.b_PM, 1 / self.b_PM.shape[1]
        for _ in range(steps):
            a_PN = self.p_PN / self._row_sums(b_PM)
            b_PM = q / (self.K_PMN * a_PN[:, None]).sum(dim=2)
        return replace(self, a_PN=a_PN, b_PM=b_PM)

    def row_errors(self) -> Tensor:
        """Sums of absolute errors of the rows: (P,)."""
        return (self.a_PN * self._row_sums(self.b_PM) - self.p_PN).abs().sum(dim=1)

    def plan(self) -> Tensor:
        return self.K_PMN * self.a_PN[:, None] * self.b_PM[:, :, None]

    def where(self, kept_P: Tensor) -> _Scaling:
        """Some of the problems."""
        return _Scaling(
            *(x[kept_P] for x in (self.log_K_PMN, self.K_PMN, self.a_PN, self.b_PM, self.p_PN)),
        )

    def absorbed(self) -> _Scaling:
        """Factors that have grown large or small go into the kernel, problem by problem."""
        log_a_PN = torch.where(self.p_PN > 0, self.a_PN.log(), 0)
        log_b_PM = self.b_PM.log()
        far_P = torch.maximum(log_a_PN.abs().amax(dim=1), log_b_PM.abs().amax(dim=1)) > FAR
        if not far_P.any():
            return self
        moved_PMN = self.log_K_PMN + log_a_PN[:, None] + log_b_PM[:, :, None]
        log_K_PMN = torch.where(far_P[:, None, None], moved_PMN, self.log_K_PMN)
        a_PN, b_PM = (torch.where(far_P[:, None], 1, x) for x in (self.a_PN, self.b_PM))
        return _Scaling(log_K_PMN, log_K_PMN.exp(), a_PN, b_PM, self.p_PN)


def _step_in_logs(log_K_PMN: Tensor, p_PN: Tensor) -> Tensor:
    """The log of the plan after one iteration; from there on no factor of an iteration is above N or M."""
    log_a_PN = p_PN.log() - log_K_PMN.logsumexp(dim=1)
    log_aK_PMN = log_K_PMN + log_a_PN[:, None]
    log_q = -torch.tensor(log_K_PMN.shape[1]).log()
    return log_aK_PMN + (log_q - log_aK_PMN.logsumexp(dim=2))[:, :, None]


class Leaving:
    """Results of problems that are done, one after another, put back into their order at the end."""

    def __init__(self, n: int, device: torch.device) -> None:
        self._left_P = torch.arange(n, device=device)
        self._order: list[Tensor] = []
        self._results: list[Sequence[Tensor]] = []

    def take(self, leaving_P: Tensor, *results: Tensor) -> None:
        """Keep what belongs to those of the remaining problems that leave."""
        self._order.append(self._left_P[leaving_P])
        self._results.append([result[leaving_P] for result in results])
        self._left_P = self._left_P[~leaving_P]

    def sorted(self) -> list[Tensor]:
        """All results."""
        order_P = torch.cat(self._order).argsort()
        return [torch.cat(parts)[order_P] for parts in zip(*self._results, strict=True)]

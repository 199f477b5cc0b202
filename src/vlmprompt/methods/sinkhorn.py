"""Plans of fixed costs by Sinkhorn's iterations, many problems at once, each to its own tolerance.

Shapes: P problems, M columns (prompts), N rows (local positions). Tensors lie as (P,M,N), so that the long
dimension is contiguous; columns weigh 1/M each, rows p.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

# Iterations between two checks of the marginals.
BLOCK = 4
# Blocks before the first time that the device is asked which problems are done; each time after, half as many again.
FIRST_LOOK = 2
# Below this lambda, exp(-C / lambda) leaves fp32's range.
LOGS_BELOW = 0.05
# Largest absolute log of a factor before the factor is moved into the kernel. A block changes it by log(N M) * BLOCK at
# most, so that between two checks no factor leaves fp32's range (logs up to 88).
FAR = 16.0


def sinkhorn(
    cost_PMN: Tensor,
    p_PN: Tensor,
    *,
    lambda_: float,
    tolerance: float,
    max_steps: int,
    b_PM: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Iterate a = p / (K b), b = q / (K^T a) from b = 1 on, with K = exp(-C / lambda).

    Args:
        p_PN: weights of the rows, not negative; each problem's sum to one.
        lambda_: below 0.05 the kernel is held as a logarithm and large factors are moved into it.
        tolerance: of the sum of absolute errors of a problem's row sums.
        b_PM: where to begin instead, such as at what similar costs ended with; not used below 0.05.

    Returns:
        diag(a) K diag(b), whose columns are exact: (P,M,N); which problems met their tolerance: (P,); and b.
    """
    in_logs = lambda_ < LOGS_BELOW
    # The least cost of each row may be subtracted: this changes a, but neither b nor the plan. It leaves a 1 in each
    # row of K, so that no row sum can become 0 and a = p / (K b) stays finite.
    log_K_PMN = (cost_PMN.amin(dim=1, keepdim=True).detach() - cost_PMN).div_(lambda_)
    left = max_steps
    if in_logs:
        log_K_PMN, left, b_PM = _step_in_logs(log_K_PMN, p_PN), left - 1, None
    state = _Scaling.start(log_K_PMN, p_PN, b_PM, weighted=in_logs)
    met_P = torch.zeros(len(p_PN), dtype=torch.bool, device=p_PN.device)
    done = Leaving(len(p_PN), p_PN.device)
    block, look = 0, FIRST_LOOK
    while True:
        # A problem rests one block after it met its tolerance. Rounding, which may depend on the rest of the batch,
        # decides in which block that is; one block later the two outcomes no longer differ.
        resting_P = met_P
        iterated, errors_P = state.after(min(BLOCK, left))
        block, left = block + 1, left - BLOCK
        if errors_P is not None:  # before the first block there is no a, and so no plan that could have errors
            met_P = met_P | (errors_P < tolerance)
        state = iterated.where_not(resting_P, state)
        if left <= 0:
            done.take_all(state.plan(), met_P | (state.row_errors() < tolerance), state.b_PM)
            break
        if in_logs:
            state = state.absorbed()
        if block == look:  # the only place where the device is waited for
            look = max(look + 1, look * 3 // 2)
            unmet = int(len(met_P) - met_P.sum())
            if not unmet:
                done.take_all(state.plan(), met_P, state.b_PM)
                break
            # Leaving copies what stays, so it is worth it only for half of the problems or more.
            if unmet <= len(met_P) // 2:
                kept_P = done.take(met_P, state.plan(), met_P, state.b_PM)
                state, met_P = state.where(kept_P), met_P[kept_P]
    plans_PMN, met_P, b_PM = done.sorted()
    return plans_PMN, met_P, b_PM


def sinkhorn_steps(
    cost_PMN: Tensor, p_PN: Tensor, *, lambda_: float, tolerance: float, steps: int, b_PM: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """So many of these iterations for all problems, whose device is not waited for; lambda is 0.05 or more."""
    log_K_PMN = (cost_PMN.amin(dim=1, keepdim=True).detach() - cost_PMN).div_(lambda_)
    state, _ = _Scaling.start(log_K_PMN, p_PN, b_PM).after(steps)
    T_PMN = state.plan()
    return T_PMN, (T_PMN.sum(dim=1) - p_PN).abs().sum(dim=1) < tolerance, state.b_PM


def sinkhorn_plot(
    cost_PMN: Tensor, p_PN: Tensor, *, lambda_: float, tolerance: float, max_steps: int
) -> tuple[Tensor, Tensor]:
    """PLOT's code: the same iterations until the mean change of all a in the batch is below the tolerance."""
    # Its code starts from a = 1 too, with which the first change of a is compared.
    state = replace(_Scaling.start(-cost_PMN / lambda_, p_PN), a_PN=torch.ones_like(p_PN))
    settled = False
    for _ in range(max_steps):
        before_PN, (state, _) = state._a, state.after(1)
        settled = bool((state._a - before_PN).abs().mean() < tolerance)
        if settled:
            break
    return state.plan(), torch.full((len(p_PN),), settled, device=p_PN.device)


@dataclass(frozen=True)
class _Scaling:
    """A kernel and its factors.

    Attributes:
        a_PN: None before the first iteration.
        weighted: weights of positions have gone into the kernel.
    """

    log_K_PMN: Tensor
    K_PMN: Tensor
    a_PN: Tensor | None
    b_PM: Tensor
    p_PN: Tensor
    weighted: bool

    @classmethod
    def start(cls, log_K_PMN: Tensor, p_PN: Tensor, b_PM: Tensor | None = None, *, weighted: bool = False) -> _Scaling:
        b_PM = log_K_PMN.new_ones(log_K_PMN.shape[:2]) if b_PM is None else b_PM
        return cls(log_K_PMN, log_K_PMN.exp(), None, b_PM, p_PN, weighted)

    def _row_sums(self, b_PM: Tensor) -> Tensor:
        # Products and sums, no matrix product: for matrices this slim it is faster, and each problem's
        # result has the same bits in any batch.
        rows_PN = (self.K_PMN * b_PM[:, :, None]).sum(dim=1)
        # A position without weight has an empty row once its weight is in the kernel: 0 / 0 must be 0.
        return rows_PN.clamp_min(torch.finfo(b_PM.dtype).tiny) if self.weighted else rows_PN

    def after(self, steps: int) -> tuple[_Scaling, Tensor | None]:
        """So many iterations later, and the errors of the rows before them, where there are factors of rows."""
        a_PN, b_PM, errors_P = self.a_PN, self.b_PM, None
        q = b_PM.new_tensor(1 / b_PM.shape[1])
        for i in range(steps):
            rows_PN = self._row_sums(b_PM)
            if i == 0 and a_PN is not None:
                errors_P = self._errors(a_PN, rows_PN)
            # b last: then the columns of the plan are exact, and only its rows have errors.
            a_PN = self.p_PN / rows_PN
            b_PM = q / (self.K_PMN * a_PN[:, None]).sum(dim=2)
        return replace(self, a_PN=a_PN, b_PM=b_PM), errors_P

    def _errors(self, a_PN: Tensor, rows_PN: Tensor) -> Tensor:
        return (a_PN * rows_PN - self.p_PN).abs().sum(dim=1)

    def row_errors(self) -> Tensor:
        """Sums of absolute errors of the rows: (P,)."""
        return self._errors(self._a, self._row_sums(self.b_PM))

    @property
    def _a(self) -> Tensor:
        assert self.a_PN is not None  # there are none before the first iteration
        return self.a_PN

    def where_not(self, resting_P: Tensor, before: _Scaling) -> _Scaling:
        """These factors, of problems at rest those of before."""
        if before.a_PN is None:  # nothing rests yet
            return self
        rests_P1 = resting_P[:, None]
        a_PN = torch.where(rests_P1, before.a_PN, self._a)
        return replace(self, a_PN=a_PN, b_PM=torch.where(rests_P1, before.b_PM, self.b_PM))

    def plan(self) -> Tensor:
        return self.K_PMN * self._a[:, None] * self.b_PM[:, :, None]

    def where(self, kept_P: Tensor) -> _Scaling:
        """Some of the problems."""
        log_K_PMN, K_PMN, a_PN, b_PM, p_PN = (
            x[kept_P] for x in (self.log_K_PMN, self.K_PMN, self._a, self.b_PM, self.p_PN)
        )
        return _Scaling(log_K_PMN, K_PMN, a_PN, b_PM, p_PN, self.weighted)

    def absorbed(self) -> _Scaling:
        """Factors that have grown large or small go into the kernel, problem by problem."""
        # A position without weight has a = 0. Its log, -inf, would count as far each time, with nothing to be moved.
        log_a_PN = torch.where(self.p_PN > 0, self._a.log(), 0)
        log_b_PM = self.b_PM.log()
        far_P = torch.maximum(log_a_PN.abs().amax(dim=1), log_b_PM.abs().amax(dim=1)) > FAR
        if not far_P.any():
            return self
        moved_PMN = self.log_K_PMN + log_a_PN[:, None] + log_b_PM[:, :, None]
        log_K_PMN = torch.where(far_P[:, None, None], moved_PMN, self.log_K_PMN)
        a_PN, b_PM = (torch.where(far_P[:, None], 1, x) for x in (self._a, self.b_PM))
        return _Scaling(log_K_PMN, log_K_PMN.exp(), a_PN, b_PM, self.p_PN, self.weighted)


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

    def take(self, leaving_P: Tensor, *results: Tensor) -> Tensor:
        """Keep what belongs to those of the remaining problems that leave; which ones (of the remaining) stay."""
        left_L, stays = leaving_P.nonzero()[:, 0], (~leaving_P).nonzero()[:, 0]
        self._order.append(self._left_P[left_L])
        self._results.append([result[left_L] for result in results])
        self._left_P = self._left_P[stays]
        return stays

    def take_all(self, *results: Tensor) -> None:
        """Keep what belongs to the remaining problems."""
        self._order.append(self._left_P)
        self._results.append(results)

    def sorted(self) -> list[Tensor]:
        """All results."""
        if len(self._results) == 1:
            return list(self._results[0])
        order_P = torch.cat(self._order).argsort()
        return [torch.cat(parts)[order_P] for parts in zip(*self._results, strict=True)]

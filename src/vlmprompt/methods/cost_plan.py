"""Plans of costs that are at hand, under uniform marginals.

Shapes: * any leading dimensions (one problem each), N rows (local positions), M columns (prompts).
"""

from __future__ import annotations

import torch
from torch import Tensor

from vlmprompt.errors import UsageError
from vlmprompt.methods.sinkhorn import sinkhorn_plot


def cost_plan(cost: Tensor, *, epsilon: float, max_iter: int = 100, tol: float = 1e-2) -> Tensor:
    """Entropic transport between rows that weigh 1/N and columns that weigh 1/M, by Sinkhorn's iterations.

    From b = 1 on, a = 1 / (N K b) and b = 1 / (M K^T a) with K = exp(-cost / epsilon), until the mean change of all a
    together is below `tol` (PLOT's rule, and SOT-GLP's): a problem depends a little on those beside it. A constant: no
    gradient runs through it. `transport_plan` is for features of which every image meets every class.

    Args:
        cost: (*,N,M).
        epsilon: strength of the entropy term.
        max_iter: most iterations.
        tol: of the mean change.

    Returns:
        (*,N,M), summing to one; columns are exact.

    Raises:
        UsageError: a setting is out of its range.
    """
    if not (epsilon > 0 and max_iter > 0 and tol >= 0):
        raise UsageError(
            f"a transport plan cannot be had with epsilon = {epsilon}, max_iter = {max_iter}, tol = {tol}",
            hint="epsilon must be positive, max_iter 1 or more, tol 0 or more",
        )
    n_rows = cost.shape[-2]
    with torch.no_grad(), torch.autocast(cost.device.type, enabled=False):
        cost_PMN = cost.detach().float().reshape(-1, *cost.shape[-2:]).mT.contiguous()
        rows_PN = torch.full_like(cost_PMN[:, 0], 1 / n_rows)
        plan_PMN, _ = sinkhorn_plot(cost_PMN, rows_PN, lambda_=epsilon, tolerance=tol, max_steps=max_iter)
    return plan_PMN.mT.reshape(cost.shape)

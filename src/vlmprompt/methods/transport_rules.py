"""When a transport plan is done: settings with their defaults.

Shapes: see `transport`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from vlmprompt.errors import UsageError

Stop = Literal["marginal", "plot"]


@dataclass(frozen=True)
class Rules:
    """See `transport_plan`."""

    alpha: float
    lambda_: float
    stop: Stop
    max_outer: int
    max_inner: int
    tol_outer: float
    tol_inner: float


def rules_of(
    dtype: torch.dtype,
    alpha: float,
    lambda_: float,
    stop: Stop,
    max_outer: int | None,
    max_inner: int | None,
    tol_outer: float | None,
    tol_inner: float | None,
) -> Rules:
    """Settings with their defaults, checked."""
    fine, plot = dtype == torch.float64, stop == "plot"
    max_outer = (20 if alpha <= 0.5 else 100) if max_outer is None else max_outer
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
    return Rules(alpha, lambda_, stop, max_outer, max_inner, tol_outer, tol_inner)

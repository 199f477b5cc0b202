"""Plans of given costs against a loop in float64, and what is refused."""

from __future__ import annotations

import pytest
import torch

from vlmprompt.errors import UsageError
from vlmprompt.methods.cost_plan import cost_plan


def test_equals_sinkhorn_by_hand() -> None:
    """Two rows, one column: the plan is the rows' weights whatever they cost."""
    torch.testing.assert_close(cost_plan(torch.tensor([[0.3], [0.9]]), epsilon=0.1), torch.tensor([[0.5], [0.5]]))


def test_equals_a_loop() -> None:
    cost = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    K = torch.exp(-cost.double() / 0.2)
    a, b = torch.ones(2, 3, 5, 1).double(), torch.ones(2, 3, 1, 4).double()
    for _ in range(7):
        a = 1 / 5 / (K * b).sum(dim=-1, keepdim=True)
        b = 1 / 4 / (K * a).sum(dim=-2, keepdim=True)
    ours = cost_plan(cost.requires_grad_(), epsilon=0.2, max_iter=7, tol=0.0)
    torch.testing.assert_close(ours, (a * K * b).float())
    torch.testing.assert_close(ours.sum(dim=-2), torch.full((2, 3, 4), 0.25))
    assert not ours.requires_grad


@pytest.mark.parametrize("wrong", [{"epsilon": 0.0}, {"epsilon": 0.1, "max_iter": 0}, {"epsilon": 0.1, "tol": -1.0}])
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="a transport plan cannot be had"):
        cost_plan(torch.zeros(2, 2), **wrong)  # type: ignore[arg-type]

"""The optimisers are torch's: same parameters, same state, whatever is within their wrappers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vlmprompt.training import uncompiled

SETTINGS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    "Adam": {"lr": 0.1, "eps": 1e-6, "weight_decay": 0.01},
    "AdamW": {"lr": 0.1, "eps": 1e-6, "weight_decay": 0.01},
}


def _steps(kind: Any, settings: dict[str, Any], count: int, state: Any = None) -> tuple[list[nn.Parameter], Any]:
    generator = torch.Generator().manual_seed(0)
    parameters = [
        nn.Parameter(torch.randn(3, 4, generator=generator)),
        nn.Parameter(torch.randn(5, generator=generator)),
    ]
    optimizer = kind([{"params": [parameters[0]], "weight_decay": 0.5}, {"params": [parameters[1]]}], **settings)
    if state is not None:
        optimizer.load_state_dict(state)
    for _ in range(count):
        optimizer.zero_grad()
        sum((parameter**2).sum() for parameter in parameters).backward()  # type: ignore[union-attr]
        optimizer.step()
    assert not any(parameter.grad is None for parameter in parameters)
    return parameters, optimizer


@pytest.mark.parametrize("name", SETTINGS)
def test_steps_and_state_are_torchs(name: str) -> None:
    settings = SETTINGS[name]
    expected, theirs = _steps(getattr(torch.optim, name), settings, 3)
    found, ours = _steps(getattr(uncompiled, name), settings, 3)
    assert isinstance(ours, getattr(torch.optim, name))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    state, other = ours.state_dict(), theirs.state_dict()
    assert state["param_groups"] == other["param_groups"] and state["state"].keys() == other["state"].keys()
    for number, slots in other["state"].items():
        assert state["state"][number].keys() == slots.keys()
        assert all(torch.equal(state["state"][number][slot], value) for slot, value in slots.items())
    # State goes from one to the other, and on.
    expected, _ = _steps(getattr(torch.optim, name), settings, 2, state)
    found, _ = _steps(getattr(uncompiled, name), settings, 2, other)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_step_records_no_gradients() -> None:
    parameters, _ = _steps(uncompiled.AdamW, SETTINGS["AdamW"], 1)
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in parameters)
    assert torch.is_grad_enabled()

"""torch's optimisers without torch's compiler, which they import when they are first used: that takes a second.

torch wraps some of their methods so that the compiler leaves them alone. Here nothing is compiled, and the methods are
what is within the wrappers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import optim
from torch.optim import Optimizer


def _bare(method: Callable[..., Any]) -> Any:
    return inspect.unwrap(method)


class _Uncompiled(Optimizer):
    add_param_group = _bare(Optimizer.add_param_group)
    zero_grad = _bare(Optimizer.zero_grad)
    state_dict = _bare(Optimizer.state_dict)
    load_state_dict = _bare(Optimizer.load_state_dict)


class SGD(_Uncompiled, optim.SGD):
    """torch's, see there."""

    step = torch.no_grad()(_bare(optim.SGD.step))


class Adam(_Uncompiled, optim.Adam):
    """torch's, see there."""

    step = torch.no_grad()(_bare(optim.Adam.step))


class AdamW(_Uncompiled, optim.AdamW):
    """torch's, see there."""

    step = torch.no_grad()(_bare(optim.AdamW.step))

"""How strongly the losses that a method adds up pull at what it trains (see `Losses.compared`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.output import Losses
from vlmprompt.training.batches import TrainBatch
from vlmprompt.training.team import Team


def compare(
    method: PromptMethod, losses: Losses, batch: TrainBatch, team: Team, accelerator: Any
) -> Mapping[str, Tensor]:
    """Norms of the gradients of the compared losses of a whole batch, and their ratios to the first one's.

    Euclidean, over all trainable parameters together. Called before the backward pass, whose graph is kept, and in all
    processes alike: each has the gradients of its part of the batch, and a norm is that of their sum.

    Returns:
        float64 scalars `<name>.norm`, and `<name>.ratio` of all but the first; nothing where nothing is compared.
    """
    found: dict[str, Tensor] = {}
    parameters = list(method.trainable_parameters())
    scale = 1.0 if accelerator.scaler is None else float(accelerator.scaler.get_scale())
    for name, loss in losses.compared.items():
        own = _gradient(scale * team.own(loss, batch), parameters)
        found[f"{name}.norm"] = (team.group.total(own) / scale).norm()
    first, *others = losses.compared or ("",)
    return found | {f"{name}.ratio": found[f"{name}.norm"] / found[f"{first}.norm"] for name in others}


def _gradient(loss: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    """Of all parameters side by side, in float64; zeros of those that the loss does not depend on."""
    if not loss.requires_grad:
        return torch.cat([p.detach().double().flatten().zero_() for p in parameters])
    grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
    return torch.cat([grad.double().flatten() for grad in grads])

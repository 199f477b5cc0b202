"""How prompts of two towers are brought together.

Shapes: J prompted layers, L prompt tokens, d width of the tower that reads the result.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmprompt.api import seeded_linear
from vlmprompt_bloom.config import Fusion

GATED: tuple[Fusion, ...] = ("gate", "routing")


class Bottleneck(nn.Module):
    """Linear, ReLU, Linear (eq. 7); PyTorch's initial values, but not from its global generator."""

    def __init__(self, d_in: int, d_m: int, d_out: int, *, bias: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.reduce = seeded_linear(d_in, d_m, bias=bias, generator=generator)
        self.expand = seeded_linear(d_m, d_out, bias=bias, generator=generator)

    def forward(self, prompts: Tensor) -> Tensor:
        """(L, d_in) -> (L, d_out)."""
        projected: Tensor = self.expand(F.relu(self.reduce(prompts)))
        return projected


def project(projections: Iterable[nn.Module], prompts_JLd: Tensor) -> Tensor:
    """The prompts of each layer through that layer's projection."""
    return torch.stack([proj(own_Ld) for proj, own_Ld in zip(projections, prompts_JLd, strict=True)])


def fuse(
    fusion: Fusion,
    own_JLd: Tensor,
    cross_JLd: Tensor,
    *,
    gates_J2: Tensor | None,
    noise_J2: Tensor | None,
    temperature: float,
) -> Tensor:
    """Fused prompts (J,L,d), (J,2L,d) for "concat".

    Args:
        own_JLd: prompts of the tower that reads the result.
        cross_JLd: prompts of the other tower, projected.
        gates_J2: logits of (own, cross); for "gate" and "routing".
        noise_J2: Gumbel noise of a training step; None: none, "routing" then takes the larger gate.
    """
    if fusion == "add":
        return own_JLd + cross_JLd
    if fusion == "concat":
        return torch.cat([own_JLd, cross_JLd], dim=1)
    assert gates_J2 is not None
    shares_J2 = gates_J2.softmax(dim=-1) if fusion == "gate" else route(gates_J2, noise_J2, temperature)
    own_J11, cross_J11 = shares_J2[:, :, None, None].unbind(dim=1)
    return own_J11 * own_JLd + cross_J11 * cross_JLd


def route(gates_J2: Tensor, noise_J2: Tensor | None, temperature: float) -> Tensor:
    """Straight-through Gumbel softmax: one of each pair is 1, with the gradient of the soft choice."""
    noisy_J2 = gates_J2 if noise_J2 is None else gates_J2 + noise_J2.to(gates_J2)
    soft_J2 = (noisy_J2 / temperature).softmax(dim=-1)
    hard_J2 = F.one_hot(soft_J2.argmax(dim=-1), 2).to(soft_J2)
    return hard_J2 + (soft_J2 - soft_J2.detach())


def gumbel_noise(layers: int, generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise (J,2)."""
    return -torch.empty(layers, 2, device=generator.device).exponential_(generator=generator).log()

"""Muon for the hidden matrices, AdamW for everything else.

AdamW alone, at the same learning rates, needs about twice the steps here. Muon (Jordan, 2024) replaces the momentum
of a matrix by the nearest orthogonal one, found by Newton-Schulz iterations; the update is scaled as in Liu et al.
(2025) so that its size per element is that of AdamW. torch's own Muon iterates in bfloat16, which many CPUs emulate.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan's quintic: drives singular values into [0.7, 1.2]
_ITERATIONS = 5
_MOMENTUM = 0.95
_BETAS = (0.9, 0.98)
_LIKE_ADAMW = 0.2  # root mean square of an update's elements
_HIDDEN = (".resblocks.", ".layer1.", ".layer2.", ".layer3.", ".layer4.", ".attnpool.")
_FUSED = ("in_proj_weight",)  # queries, keys and values: three matrices in one


def orthogonal(matrix: Tensor) -> Tensor:
    """Roughly the nearest matrix with orthonormal rows or columns."""
    a, b, c = _COEFFICIENTS
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Optimiser:
    """Steps over named parameters.

    Args:
        pool: where the matrices are made orthogonal.
        matrix_lr: Muon's learning rate as a multiple of AdamW's.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], pool: Executor, *, weight_decay: float, matrix_lr: float
    ) -> None:
        self._pool, self._decay, self._matrix_lr = pool, weight_decay, matrix_lr
        self._matrices = {n: p for n, p in parameters.items() if p.ndim > 1 and any(h in f".{n}" for h in _HIDDEN)}
        self._rest = {name: p for name, p in parameters.items() if name not in self._matrices}
        groups = [
            {"params": [p for p in self._rest.values() if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in self._rest.values() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self._adamw = torch.optim.AdamW(groups, lr=0.0, betas=_BETAS)
        self._momentum = {name: torch.zeros_like(p) for name, p in self._matrices.items()}

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self._adamw.zero_grad()
        for parameter in self._matrices.values():
            parameter.grad = None

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update at AdamW's learning rate `lr`."""
        for group in self._adamw.param_groups:
            group["lr"] = lr
        updates = self._pool.map(self._update, self._matrices)
        self._adamw.step()
        rate = lr * self._matrix_lr
        for parameter, update in zip(self._matrices.values(), updates, strict=True):
            parameter.mul_(1 - rate * self._decay).add_(update, alpha=-rate)

    @torch.no_grad()
    def _update(self, name: str) -> Tensor:
        """Nesterov momentum, orthogonalised."""
        parameter, momentum = self._matrices[name], self._momentum[name]
        assert parameter.grad is not None
        momentum.lerp_(parameter.grad, 1 - _MOMENTUM)
        wanted = parameter.grad.lerp(momentum, _MOMENTUM)
        parts = wanted.flatten(1).chunk(3 if name.endswith(_FUSED) else 1)
        scaled = [orthogonal(part) * (_LIKE_ADAMW * max(part.shape) ** 0.5) for part in parts]
        return torch.cat(scaled).view_as(parameter)

    def state(self) -> dict[str, Tensor]:
        """All of it as named tensors."""
        state = {f"momentum.{name}": tensor for name, tensor in self._momentum.items()}
        for name, parameter in self._rest.items():
            state |= {f"{key}.{name}": value for key, value in self._adamw.state[parameter].items()}
        return state

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state()`."""
        for name, tensor in self._momentum.items():
            tensor.copy_(state[f"momentum.{name}"])
        for name, parameter in self._rest.items():
            keys = ("step", "exp_avg", "exp_avg_sq")
            self._adamw.state[parameter] = {key: state[f"{key}.{name}"].clone() for key in keys}

"""Tokens put between the start tokens and the text, from some layer on.

Shapes: P prompts, K classes, T flat tokens of a chunk, R inserted tokens, D width; * any leading dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from vlmprompt.backbones.text.layout import Chunk
from vlmprompt.backbones.text.windows import Runs, adjoining


def put(x: Tensor, first: int, tokens: Tensor, *, over: int) -> Tensor:
    """Tokens (*,R,D) at position `first` of texts (*,T,D), in place of `over` tokens that are there."""
    return torch.cat([x[..., :first, :], tokens.to(x.dtype), x[..., first + over :, :]], dim=-2)


@dataclass(frozen=True)
class Widened:
    """A chunk whose classes each have R more tokens before their own.

    Attributes:
        part: runs and ends of the longer ones. What it says of the tokens' input (ids, positions,
            context) stays that of the shorter ones.
        moved_T: where each token of the shorter runs is now.
        slots_KR: where the inserted tokens are.
    """

    part: Chunk
    moved_T: Tensor
    slots_KR: Tensor

    @classmethod
    def of(cls, part: Chunk, n: int) -> Widened:
        """With n = R more tokens a class."""
        at_K = torch.arange(len(part.first_K), device=part.first_K.device)
        flat_T = torch.arange(len(part.ids_T), device=part.first_K.device)
        # Before a token lie the inserted ones of its own class, if it stands behind them, and of the classes before.
        moved_T = flat_T + n * torch.searchsorted(part.first_K, flat_T, right=True)
        slots_KR = (part.first_K + n * at_K)[:, None] + torch.arange(n, device=at_K.device)
        runs = part.runs.once((Widened, n), partial(_wider, part.runs, moved_T, n))
        wide = replace(part, runs=runs, first_K=part.first_K + n * (at_K + 1), ends_K=moved_T[part.ends_K])
        return cls(wide, moved_T, slots_KR)

    def insert(self, x_PTD: Tensor, tokens_PKRD: Tensor) -> Tensor:
        """The longer runs, of the shorter ones and the inserted tokens."""
        n_prompts, n_tokens = len(tokens_PKRD), len(self.moved_T) + self.slots_KR.numel()
        wide_PTD = x_PTD.new_zeros(n_prompts, n_tokens, x_PTD.shape[-1])
        wide_PTD = wide_PTD.index_copy(1, self.moved_T, x_PTD.expand(n_prompts, -1, -1))
        return self.overwrite(wide_PTD, tokens_PKRD)

    def overwrite(self, x_PTD: Tensor, tokens_PKRD: Tensor) -> Tensor:
        """The longer runs with other inserted tokens."""
        return x_PTD.index_copy(1, self.slots_KR.flatten(), tokens_PKRD.flatten(1, 2).to(x_PTD.dtype))


def _wider(runs: Runs, moved_T: Tensor, n: int) -> Runs:
    """Each run with n more tokens."""
    groups = adjoining((group.count, group.length + n, group.sees_itself) for group in runs.groups)
    hidden_T = runs.hidden_T
    if hidden_T is not None:
        hidden_T = hidden_T.new_zeros(groups[-1].stop).index_copy(0, moved_T, hidden_T)
    return Runs(groups, hidden_T, runs.device)

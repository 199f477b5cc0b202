"""What the first layer need not compute for each text: tokens that stand in several texts at one position.

Their input is the same, so their queries, keys and values are, and no gradient flows to them. Only context tokens have
their own. Behind the first layer tokens differ by what they have attended to, and nothing is shared.

Shapes: P prompts, K classes, Q = P*K texts of T tokens, N = K*T tokens of one prompt, U distinct ones, S context tokens
of all texts, D width, H heads, h = D/H.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vlmprompt.backbones.text.layout import Chunk
from vlmprompt.backbones.text.tower import TextBlock

# Below so many tokens of all texts, finding what repeats costs what it saves.
FEWEST = 2048


@dataclass(frozen=True)
class Repeats:
    """Which tokens of whole texts are the same.

    Attributes:
        first_U: flat place (of N) of one of each.
        of_N: which of them every token is; any at context tokens.
        context_S: flat places (of Q*T) of context tokens.
        context_SD: what stands there, without position.
    """

    first_U: Tensor
    of_N: Tensor
    context_S: Tensor
    context_SD: Tensor

    @classmethod
    def found(cls, part: Chunk, length: int, context_PSD: Tensor) -> Repeats | None:
        """Those of a chunk of filled texts; None where so few repeat that nothing is saved.

        Args:
            length: T.
            context_PSD: the context tokens of the chunk, by prompt.
        """
        n_prompts, n_slots = context_PSD.shape[:2]
        n = len(part.ids_T)
        if n * n_prompts < FEWEST or n_slots > n // 2:
            return None
        key_N = (part.ids_T * length + part.positions_T).index_fill(0, part.slots_S, -1)
        key_U, of_N = key_N.unique(return_inverse=True)
        if len(key_U) + n_prompts * n_slots > n * n_prompts // 2:
            return None
        flat_N = torch.arange(n, device=of_N.device)
        first_U = flat_N.new_empty(len(key_U)).scatter(0, of_N, flat_N)
        offsets_P = n * torch.arange(n_prompts, device=of_N.device)
        context_S = (offsets_P[:, None] + part.slots_S).flatten()
        return cls(first_U, of_N, context_S, context_PSD.flatten(0, 1))

    def qkv(self, block: TextBlock, x_QTD: Tensor, position_TD: Tensor) -> Tensor:
        """The first layer's queries, keys and values of all tokens: (3,Q,H,T,h).

        Args:
            x_QTD: its input.
        """
        n_texts, length = x_QTD.shape[:2]
        with torch.no_grad():
            fixed_UD = x_QTD.detach().flatten(0, 1).index_select(0, self.first_U)
            fixed = block.qkv(block.norm(fixed_UD)).permute(2, 0, 1, 3)  # (U,3,H,h)
            whole = fixed.index_select(0, self.of_N.repeat(n_texts * length // len(self.of_N)))
        context_SD = self.context_SD.to(x_QTD.dtype) + position_TD.index_select(0, self.context_S % length)
        own = block.qkv(block.norm(context_SD)).permute(2, 0, 1, 3)
        whole.index_copy_(0, self.context_S, own.to(whole.dtype))
        return whole.unflatten(0, (n_texts, length)).permute(2, 0, 3, 1, 4)

"""How visual prompts pass through a block.

Shapes: B images, T tokens, L prompt tokens, c width.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from vlmprompt.backbones.types import ImageNeeds, VisualPrompts
from vlmprompt.backbones.vision.tower import ImageBlock, PromptedBlock


def append(x_BTc: Tensor, prompts_Lc: Tensor) -> Tensor:
    """The tokens of all images, and the same prompts behind those of each: (B,T+L,c)."""
    return torch.cat([x_BTc, prompts_Lc.to(x_BTc.dtype).expand(len(x_BTc), -1, -1)], dim=1)


def beside(block: ImageBlock, x_BTc: Tensor, prompts_Lc: Tensor) -> Tensor:
    """A block's outputs of the tokens before prompts that nobody reads: (B,T,c)."""
    if hasattr(block, "beside"):
        return cast("PromptedBlock", block).beside(x_BTc, prompts_Lc.to(x_BTc.dtype))
    return block.head(append(x_BTc, prompts_Lc), x_BTc.shape[1])


def left(prompts: VisualPrompts, layer: int) -> bool:
    """Whether prompts are to be gone at a layer because it is behind the last that names any."""
    return bool(prompts) and prompts.drop_after and layer > max(prompts)


def unread(prompts: VisualPrompts, layer: int, layers: int, needs: ImageNeeds) -> bool:
    """Whether nobody reads what a layer makes of the prompts that enter it.

    Not of blocks with deltas, whose dropout hangs on how the tokens are put together.

    Args:
        layers: of the tower.
    """
    gone = layer + 1 in prompts or left(prompts, layer + 1)
    return gone and layer < layers - 1 and needs.local != "value_attention" and not prompts.deltas

"""open_clip's own vision transformer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vlmprompt.backbones.openclip.blocks import residual_blocks, unfit_any
from vlmprompt.backbones.types import LocalKind
from vlmprompt.backbones.vision.tower import ImageBlock


class ClassTokenViT:
    """A ViT read at its class token: a `TokenTower`.

    Args:
        visual: the module; whether it is of this kind says `unfit_vit`.
    """

    kind = "ViT, class token"
    n_special = 1
    pooled = 1

    def __init__(self, visual: Any, joint_dim: int) -> None:
        self._visual = visual
        self.blocks: Sequence[ImageBlock] = residual_blocks(visual.transformer.resblocks)
        self.width = int(visual.class_embedding.shape[-1])
        self.joint_dim = joint_dim
        self.grid: tuple[int, int] = tuple(visual.grid_size)

    @property
    def projection(self) -> Tensor | None:
        """The last linear map (c,d)."""
        return self._visual.proj

    def embed(self, images: Tensor) -> Tensor:
        """See `TokenTower.embed`."""
        v = self._visual
        patches_BNc = v.conv1(images).flatten(2).transpose(1, 2)
        cls_B1c = v.class_embedding.to(patches_BNc.dtype).expand(len(images), 1, -1)
        return torch.cat([cls_B1c, patches_BNc], dim=1) + v.positional_embedding.to(patches_BNc.dtype)

    def enter(self, x_BTc: Tensor) -> Tensor:
        """See `TokenTower.enter`."""
        return self._visual.ln_pre(x_BTc)

    def pool(self, x_BTc: Tensor) -> Tensor:
        """See `TokenTower.pool`."""
        return self._visual.ln_post(x_BTc[:, 0])

    def local(self, x_BNc: Tensor, kind: LocalKind) -> Tensor:
        """See `TokenTower.local`."""
        return self._visual.ln_post(x_BNc)


def unfit_vit(visual: Any) -> str | None:
    """Why open_clip's ViT is not read at its class token, or has blocks that cannot be run; None where it is fit."""
    if visual.attn_pool is not None or visual.pool_type != "tok":
        return "it is pooled without a class token"
    if visual.final_ln_after_pool:
        return "its last norm stands behind the pool"
    blocks: Sequence[nn.Module] = visual.transformer.resblocks
    return unfit_any(blocks)

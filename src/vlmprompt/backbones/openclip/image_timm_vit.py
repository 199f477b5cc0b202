"""timm's vision transformers in open_clip's wrapper: SigLIP, PE-Core, EVA, MobileCLIP-B and L, and plain ones."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.attention_pool import AttentionPoolLatent
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_relpos import VisionTransformerRelPos
from torch import Tensor, nn
from torch.nn import functional as F

from vlmprompt.backbones.openclip.image_timm_blocks import timm_blocks, unfit_blocks
from vlmprompt.backbones.openclip.image_timm_head import bare_linear, wrapper_layers
from vlmprompt.backbones.types import LocalKind

_KINDS = (VisionTransformer, VisionTransformerRelPos, Eva)
# What is run here in pieces; a tower of a class that overrides one of them (a distilled one) has other features.
_STEPS = ("_pos_embed", "forward_features", "pool", "forward_head")


class TimmViT:
    """A transformer of timm, read at its class token, at the mean of its patches or by a pool: a `TokenTower`.

    Args:
        visual: open_clip's `TimmModel`; whether it is of this kind says `unfit_timm_vit`.
    """

    def __init__(self, visual: Any, joint_dim: int) -> None:
        trunk = visual.trunk
        self._trunk, self._head = trunk, visual.head
        self._pool: Any = getattr(trunk, "attn_pool", None)
        self.kind = f"timm {type(trunk).__name__}, {_pool_name(trunk)}"
        self.n_special = int(trunk.num_prefix_tokens)
        self.pooled: int | None = 1 if self._pool is None and trunk.global_pool == "token" else None
        self.width = int(trunk.embed_dim)
        self.joint_dim = joint_dim
        rows, columns = trunk.patch_embed.grid_size
        self.grid = (int(rows), int(columns))
        self.blocks = timm_blocks(trunk, self.n_special + rows * columns)

    @property
    def projection(self) -> Tensor | None:
        """The last linear map (c,d), where it has no bias."""
        last = last_linear(self._trunk, self._head)
        return None if last is None else last.weight.T

    def embed(self, images: Tensor) -> Tensor:
        """See `TokenTower.embed`."""
        trunk = self._trunk
        patches = trunk.patch_embed(images)
        if isinstance(trunk, VisionTransformerRelPos):
            special = [] if trunk.cls_token is None else [trunk.cls_token.expand(len(images), -1, -1)]
            return torch.cat([*special, patches], dim=1)
        x_BTc = trunk._pos_embed(patches)  # timm has no public name for it; Eva's returns rotations beside the tokens
        return x_BTc[0] if isinstance(trunk, Eva) else x_BTc

    def enter(self, x_BTc: Tensor) -> Tensor:
        """See `TokenTower.enter`."""
        return x_BTc if isinstance(self._trunk, VisionTransformerRelPos) else self._trunk.norm_pre(x_BTc)

    def pool(self, x_BTc: Tensor) -> Tensor:
        """See `TokenTower.pool`."""
        trunk = self._trunk
        x_BTc = trunk.norm(x_BTc)
        if self._pool is not None:
            # Eva (PE-Core) has no such setting: its pool reads the special tokens, too.
            x_Bc = self._pool(x_BTc[:, 0 if getattr(trunk, "pool_include_prefix", True) else self.n_special :])
        elif self.pooled:
            x_Bc = x_BTc[:, 0]
        else:
            x_Bc = x_BTc[:, 0 if getattr(trunk, "pool_include_prefix", False) else self.n_special :].mean(dim=1)
        return self._read(x_Bc)

    def local(self, x_BNc: Tensor, kind: LocalKind) -> Tensor:
        """See `TokenTower.local`."""
        x_BNc = self._trunk.norm(x_BNc)
        return self._read(x_BNc if self._pool is None else _value_path(self._pool, x_BNc))

    def _read(self, x: Tensor) -> Tensor:
        """What stands between the pool and the projection."""
        trunk = self._trunk
        x = trunk.fc_norm(x)
        last = last_linear(trunk, self._head)
        if last is None:
            return self._head(trunk.head(x))
        return x if last is trunk.head else trunk.head(x)


def last_linear(trunk: Any, head: nn.Sequential) -> nn.Linear | None:
    """The linear map without bias that a tower ends in, with nothing but a pool before it; None where it has none."""
    return bare_linear(wrapper_layers(head) or [trunk.head])


def _value_path(pool: AttentionPoolLatent, x_BNc: Tensor) -> Tensor:
    """What the pool makes of each patch if it sees nothing else, with an attention of 1."""
    width = x_BNc.shape[-1]
    bias = None if pool.kv.bias is None else pool.kv.bias[width:]
    x_BNc = pool.proj(F.linear(x_BNc, pool.kv.weight[width:], bias))
    return x_BNc if pool.mlp is None else x_BNc + pool.mlp(pool.norm(x_BNc))


def _pool_name(trunk: Any) -> str:
    if getattr(trunk, "attn_pool", None) is not None:
        return "attention pool"
    return "class token" if trunk.global_pool == "token" else "mean of patches"


def is_timm_vit(trunk: nn.Module) -> bool:
    """Whether a trunk is a transformer from its first layer to its last, and not the last stage of a hybrid."""
    stem = getattr(getattr(trunk, "patch_embed", None), "backbone", None)
    return isinstance(trunk, _KINDS) and not hasattr(stem, "stages")


def unfit_timm_vit(trunk: Any) -> str | None:
    """Why a transformer of timm cannot be run; None where it can."""
    kind = next(kind for kind in _KINDS if isinstance(trunk, kind))
    if any(getattr(type(trunk), step, None) is not getattr(kind, step, None) for step in _STEPS):
        return f"it is a {type(trunk).__name__}, which is read in another way than a {kind.__name__}"
    if trunk.global_pool not in ("token", "avg", "map"):
        return f"it is pooled by {trunk.global_pool!r}"
    pool = getattr(trunk, "attn_pool", None)
    if pool is not None and (not isinstance(pool, AttentionPoolLatent) or pool.pos_embed is not None):
        return "its attention pool has positions of its own"
    if getattr(trunk, "dynamic_img_size", False):
        return "it has no fixed grid of patches"
    return unfit_blocks(trunk, alone=pool is None and trunk.global_pool == "token")

"""CLIP with a ViT (Radford et al., 2021), made of the parts that the engines run, under open_clip's names.

The numbers are those of `open_clip.model.CLIP`, whose import takes as long as that of torch.

Shapes: B images or texts, T tokens, D width, d joint width.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmprompt.backbones.adapting import QUICK_GELU
from vlmprompt.backbones.openclip.unfilled import unfilled


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return x * torch.sigmoid(QUICK_GELU * x)


class Block(nn.Module):
    """A pre-norm residual attention block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ls_1 = nn.Identity()
        self.ln_2 = nn.LayerNorm(width)
        layers = {"c_fc": nn.Linear(width, 4 * width), "gelu": QuickGELU(), "c_proj": nn.Linear(4 * width, width)}
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ls_2 = nn.Identity()

    def forward(self, x_BTD: Tensor, mask_TT: Tensor | None = None) -> Tensor:
        """(B,T,D) -> the same; `mask_TT` is added to the scores."""
        normed = self.ln_1(x_BTD)
        x_BTD = x_BTD + self.attn(normed, normed, normed, need_weights=False, attn_mask=mask_TT)[0]
        out: Tensor = x_BTD + self.mlp(self.ln_2(x_BTD))
        return out


class Transformer(nn.Module):
    """Blocks, one after the other."""

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads) for _ in range(layers))

    def forward(self, x_BTD: Tensor, mask_TT: Tensor | None = None) -> Tensor:
        """(B,T,D) -> the same."""
        for block in self.resblocks:
            x_BTD = block(x_BTD, mask_TT)
        return x_BTD


class ImageTower(nn.Module):
    """A ViT that is read at its class token."""

    pool_type, attn_pool, final_ln_after_pool = "tok", None, False

    def __init__(self, width: int, head_width: int, layers: int, image_size: int, patch_size: int, out: int) -> None:
        super().__init__()
        side = image_size // patch_size
        self.image_size, self.patch_size = (image_size, image_size), (patch_size, patch_size)
        self.grid_size = (side, side)
        self.conv1 = nn.Conv2d(3, width, patch_size, stride=patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(side * side + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, width // head_width, layers)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, out))

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Features (B,d)."""
        patches_BND = self.conv1(images_B3HW).flatten(2).transpose(1, 2)
        class_B1D = self.class_embedding.expand(len(images_B3HW), 1, -1)
        x_BTD = torch.cat([class_B1D, patches_BND], dim=1) + self.positional_embedding
        features: Tensor = self.ln_post(self.transformer(self.ln_pre(x_BTD))[:, 0]) @ self.proj
        return features


class Clip(nn.Module):
    """Both towers. Parameters hold no values: they are to be given by `load_state_dict`.

    Args: as those of `open_clip.model.CLIP`, of which no others are known.
    """

    text_pool_type = "argmax"  # the end token has the highest id

    def __init__(self, embed_dim: int, vision_cfg: Mapping[str, Any], text_cfg: Mapping[str, Any]) -> None:
        super().__init__()
        width, length = text_cfg["width"], text_cfg["context_length"]
        self.visual = ImageTower(**vision_cfg, out=embed_dim)
        self.transformer = Transformer(width, text_cfg["heads"], text_cfg["layers"])
        self.token_embedding = nn.Embedding(text_cfg["vocab_size"], width)
        self.positional_embedding = nn.Parameter(torch.empty(length, width))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, embed_dim))
        self.logit_scale = nn.Parameter(torch.empty(()))
        self.attn_mask: Tensor
        mask_TT = torch.full((length, length), float("-inf")).triu_(1)
        self.register_buffer("attn_mask", mask_TT, persistent=False)

    def encode_image(self, images_B3HW: Tensor, normalize: bool = False) -> Tensor:
        """Features (B,d)."""
        features: Tensor = self.visual(images_B3HW)
        return F.normalize(features, dim=-1) if normalize else features

    def encode_text(self, ids_BT: Tensor, normalize: bool = False) -> Tensor:
        """Features (B,d) of token ids."""
        x_BTD = self.transformer(self.token_embedding(ids_BT) + self.positional_embedding, self.attn_mask)
        ends_BD = self.ln_final(x_BTD)[torch.arange(len(ids_BT)), ids_BT.argmax(dim=-1)]
        features: Tensor = ends_BD @ self.text_projection
        return F.normalize(features, dim=-1) if normalize else features


def filled(architecture: Mapping[str, Any], state: Mapping[str, Tensor]) -> Clip:
    """A model with QuickGELU and the weights of `state`, which it holds from now on; nothing is drawn at random."""
    parts = {name: architecture[name] for name in ("embed_dim", "vision_cfg", "text_cfg")}
    with unfilled():
        model = Clip(**parts)
    model.load_state_dict(dict(state), assign=True)
    return model

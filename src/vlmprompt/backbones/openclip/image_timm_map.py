"""timm's convolutional towers and hybrids in open_clip's wrapper: ConvNeXt, FastViT (MobileCLIP-S), ViTamin, Swin."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vlmprompt.backbones.openclip.image_timm_head import bare_linear, wrapper_layers
from vlmprompt.backbones.openclip.transforms import input_sides
from vlmprompt.backbones.types import LocalKind


class TimmMaps:
    """A tower that ends in a map, a pool over its positions and a head: a `MapTower`.

    A local feature is what pool and head make of one position alone, of a map of one place. There is no attention to
    take apart, so all definitions of local features are this one.
    """

    def __init__(self, visual: Any, joint_dim: int) -> None:
        self._trunk, self._head = visual.trunk, visual.head
        pool = "attention pool over" if hasattr(visual.head, "pool") else "mean of"
        self.kind = f"timm {type(visual.trunk).__name__}, {pool} the last map"
        self.joint_dim = joint_dim
        self.width = joint_dim if self.projection is None else self.projection.shape[0]
        self.grid = _grid(visual)
        self._channels_last = getattr(visual.trunk, "output_fmt", "NCHW") == "NHWC"
        self._sequence = _is_hybrid(visual.trunk)

    @property
    def projection(self) -> Tensor | None:
        """The last linear map (C,d), where it has no bias."""
        last = bare_linear(wrapper_layers(self._head))
        return None if last is None else last.weight.T

    def map(self, images: Tensor) -> Tensor:
        """See `MapTower.map`."""
        x: Tensor = self._trunk.forward_features(images)
        if self._sequence:
            return x
        return x.flatten(1, 2) if self._channels_last else x.flatten(2).transpose(1, 2)

    def read(self, map_BNc: Tensor, local: LocalKind | None) -> tuple[Tensor, Tensor | None]:
        """See `MapTower.read`."""
        pooled_BC = self._pool(map_BNc, self.grid)
        if local is None:
            return pooled_BC, None
        alone_MC = self._pool(map_BNc.reshape(-1, 1, map_BNc.shape[-1]), (1, 1))
        return pooled_BC, alone_MC.unflatten(0, map_BNc.shape[:2])

    def _pool(self, map_BNc: Tensor, grid: tuple[int, int]) -> Tensor:
        """Pool and head, up to the projection: (B,C)."""
        x = map_BNc
        if not self._sequence:
            x_BHWc = x.unflatten(1, grid)
            x = x_BHWc if self._channels_last else x_BHWc.permute(0, 3, 1, 2)
        x = self._trunk.forward_head(x)
        return self._head(x) if self.projection is None else x


def unfit_timm_map(visual: Any) -> str | None:
    """Why a tower of timm has no map that can be read; None where it has one."""
    trunk = visual.trunk
    if not hasattr(trunk, "forward_features") or not hasattr(trunk, "forward_head"):
        return f"it is a {type(trunk).__name__}, which gives no map before its pool"
    if getattr(trunk, "num_prefix_tokens", 0) or getattr(trunk, "attn_pool", None) is not None:
        return f"it is a {type(trunk).__name__} of a kind that is not known here"
    if len(_shape(visual)) != 4:
        return f"it is a {type(trunk).__name__}, whose last tokens are in no rows and columns"
    return None


def _is_hybrid(trunk: Any) -> bool:
    """Whether convolutions make the patches of a transformer: its map is theirs, and a sequence in the end."""
    return hasattr(getattr(trunk, "patch_embed", None), "backbone") and hasattr(trunk, "blocks")


class _Stages(nn.Module):
    """What makes a tower's map, as a module of its own."""

    def __init__(self, trunk: Any, of_hybrid: bool) -> None:
        super().__init__()
        self.trunk, self._of_hybrid = trunk, of_hybrid

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = (self.trunk.patch_embed.backbone if self._of_hybrid else self.trunk.forward_features)(images)
        return features


def _grid(visual: Any) -> tuple[int, int]:
    """Rows and columns of the last map of an image of the tower's size."""
    shape = _shape(visual)
    rows, columns = shape[1:3] if getattr(visual.trunk, "output_fmt", "NCHW") == "NHWC" else shape[2:4]
    return int(rows), int(columns)


def _shape(visual: Any) -> torch.Size:
    """Of the last map of an image of the tower's size: by shapes alone, nothing is computed."""
    stages = _Stages(visual.trunk, _is_hybrid(visual.trunk))
    shapes = {name: tensor.to("meta") for name, tensor in (*stages.named_parameters(), *stages.named_buffers())}
    with torch.no_grad():
        last = functional_call(stages, shapes, torch.empty(1, 3, *input_sides(visual), device="meta"))
    return last.shape

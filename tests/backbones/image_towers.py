"""A small image tower of every kind, with random weights: as open_clip builds them, two layers deep and narrow."""

from __future__ import annotations

from typing import Any
from unittest import mock

import open_clip
import torch
from torch import nn

JOINT = 48  # SigLIP has no projection, so this is its width
_VIT = {"image_size": 32, "layers": 2, "width": 48, "patch_size": 8, "head_width": 24}
_MEAN = {"no_ln_pre": True, "pool_type": "avg"}
_SMALL = {"img_size": 64, "embed_dim": 48, "num_heads": 2, "depth": 2}
_SHALLOW = {"img_size": 64, "depth": 2}  # their stems have a width of their own
_CONV = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}
_TIMM: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # kind -> open_clip's settings, timm's
    "siglip": ({"name": "vit_base_patch16_siglip_224", "pool": "map", "proj": "none"}, _SMALL),
    "pe_core": ({"name": "vit_pe_core_tiny_patch16_384", "pool": "map", "proj": None}, _SMALL),
    "pe_core_without_class_token": ({"name": "vit_pe_core_gigantic_patch14_448", "pool": "map", "proj": None}, _SMALL),
    "eva01": ({"name": "eva_giant_patch14_224", "pool": "token", "proj": None}, _SMALL),
    "eva02": ({"name": "eva02_base_patch16_clip_224", "pool": "token", "proj": None}, _SMALL),
    "eva02_post_norm": ({"name": "eva02_enormous_patch14_clip_224", "pool": "token", "proj": None}, _SMALL),
    "mobileclip_b": ({"name": "vit_base_mci_224", "pool": "token", "proj": None}, _SHALLOW),
    "mobileclip_l": ({"name": "vit_large_patch14_clip_224", "pool": "token", "proj": None}, _SMALL),
    "gap": ({"name": "vit_medium_patch16_gap_256", "pool": "", "proj": "linear"}, _SMALL),
    "relpos": ({"name": "vit_relpos_medium_patch16_cls_224", "pool": "", "proj": "linear"}, _SMALL),
    "vitamin": ({"name": "vitamin_small_224", "pool": "", "proj": "linear"}, _SHALLOW),
    "convnext": ({"name": "convnext_tiny", "pool": "", "proj": "linear"}, _CONV),
    "convnext_mlp": ({"name": "convnext_large", "pool": "", "proj": "mlp"}, _CONV),
    "fastvit": (
        {"name": "fastvit_mci0", "pool": "avg", "proj": None},
        {"layers": (1, 1, 1, 1), "embed_dims": (16, 32, 64, 64)},
    ),
    "swin": (
        {"name": "swin_base_patch4_window7_224", "pool": "", "proj": "linear"},
        {"img_size": 64, "window_size": 2, "embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)},
    ),
}
_OPEN_CLIP: dict[str, dict[str, Any]] = {
    "vit": _VIT,
    "clipa": {**_VIT, **_MEAN, "final_ln_after_pool": True},
    "vit_mean": {**_VIT, **_MEAN},
    "coca": {**_VIT, "attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 5},
    "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16},
}
KINDS = (*_OPEN_CLIP, *_TIMM)
SIDE = 64  # of timm's


def image_tower(kind: str) -> Any:
    """The frozen module; layer scales are raised, as their initial values hide whole blocks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tower = _timm(*_TIMM[kind]) if kind in _TIMM else open_clip.model._build_vision_tower(JOINT, _OPEN_CLIP[kind])
        return stirred(tower)


def stirred(tower: Any, noise: float = 0.1) -> Any:
    """The tower, frozen, with weights that make every block count: random towers of two layers are almost linear, and
    the initial layer scales hide whole blocks."""
    for name, parameter in tower.named_parameters():
        if name.rpartition(".")[2] in ("gamma", "gamma_1", "gamma_2", "layer_scale"):
            parameter.data.fill_(0.3)
        else:
            parameter.data += noise * torch.randn(parameter.shape)
    return tower.eval().requires_grad_(False)


def _timm(wrapper: dict[str, Any], trunk: dict[str, Any]) -> nn.Module:
    from open_clip import timm_model

    create = timm_model.timm.create_model
    settings = {"pool": wrapper["pool"], "proj": wrapper["proj"]}
    with mock.patch.object(timm_model.timm, "create_model", lambda name, **more: create(name, **{**more, **trunk})):
        return timm_model.TimmModel(wrapper["name"], JOINT, image_size=SIDE, **settings)


def pictures(tower: Any, count: int = 2) -> torch.Tensor:
    """Noise of the size that a tower was built for."""
    size = tower.image_size
    rows, columns = size if isinstance(size, tuple) else (size, size)
    return torch.randn(count, 3, rows, columns, generator=torch.Generator().manual_seed(1))

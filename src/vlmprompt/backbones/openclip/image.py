"""Which kind of image tower a model has."""

from __future__ import annotations

from typing import Any

from vlmprompt.backbones.openclip.clip import ImageTower
from vlmprompt.backbones.openclip.image_resnet import AttentionPoolResNet
from vlmprompt.backbones.openclip.image_vit import open_clip_vit, unfit_vit
from vlmprompt.backbones.precision import Autocast
from vlmprompt.backbones.vision.maps import MapEngine
from vlmprompt.backbones.vision.tokens import TokenEngine
from vlmprompt.backbones.vision.tower import VisionEngine
from vlmprompt.errors import CapabilityError


def vision_engine(visual: Any, joint_dim: int, autocast: Autocast, name: str) -> VisionEngine:
    """The engine of an image tower.

    Args:
        name: of the backbone, for errors.

    Raises:
        CapabilityError: a tower that no engine can run; says why.
    """
    if isinstance(visual, ImageTower):
        return TokenEngine(open_clip_vit(visual, joint_dim), autocast)
    # Importing these takes seconds, which a tower that is none of open_clip's need not wait for.
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    from vlmprompt.backbones.openclip.image_timm_map import TimmMaps, unfit_timm_map
    from vlmprompt.backbones.openclip.image_timm_vit import TimmViT, is_timm_vit, unfit_timm_vit

    reason: str | None = (
        f"it is a {type(visual).__name__}, neither open_clip's ViT or ModifiedResNet nor a tower of timm"
    )
    if isinstance(visual, ModifiedResNet):
        return MapEngine(AttentionPoolResNet(visual, joint_dim), autocast)
    if isinstance(visual, VisionTransformer):
        reason = unfit_vit(visual)
        if reason is None:
            return TokenEngine(open_clip_vit(visual, joint_dim), autocast)
    elif isinstance(visual, TimmModel) and is_timm_vit(visual.trunk):
        reason = unfit_timm_vit(visual.trunk)
        if reason is None:
            return TokenEngine(TimmViT(visual, joint_dim), autocast)
    elif isinstance(visual, TimmModel):
        reason = unfit_timm_map(visual)
        if reason is None:
            return MapEngine(TimmMaps(visual, joint_dim), autocast)
    raise CapabilityError(
        f"the image tower of backbone {name!r} cannot serve here: {reason}",
        hint="use a CLIP-type backbone such as ViT-B-16-quickgelu/openai or RN50-quickgelu/openai",
    )

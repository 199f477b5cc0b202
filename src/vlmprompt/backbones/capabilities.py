"""What a backbone's towers can do, told by the engines and not by names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.text.causal import CausalTower
from vlmprompt.backbones.vision.tokens import TokenEngine
from vlmprompt.backbones.vision.tower import VisionEngine


@dataclass(frozen=True)
class Capabilities:
    """For people, and for methods that need something of a tower.

    Attributes:
        text: kind of text tower.
        context_length: longest text in tokens.
        text_layers: layers that deep text prompts can name.
        shared_prefix: whether what stands before the class name is computed once for all classes.
        text_deltas: whether the blocks of the text tower can be changed, see `TowerDeltas`.
        image: kind of image tower.
        image_size: height and width of its input in pixels.
        grid: rows and columns of local features; None where there are none.
        local: what a local feature is; None where there are none.
        visual_prompts: whether the image tower takes prompt tokens.
        image_deltas: whether the blocks of the image tower can be changed.
        image_layers: layers that visual prompts can name.
        joint_dim: width of the joint space.
    """

    text: str
    context_length: int
    text_layers: int
    shared_prefix: bool
    text_deltas: bool
    image: str
    image_size: tuple[int, int]
    grid: tuple[int, int] | None
    local: str | None
    visual_prompts: bool
    image_deltas: bool
    image_layers: int
    joint_dim: int


# What methods may require of a backbone, by the names of `REQUIREMENTS` -> whether it is there.
_OFFERS: Mapping[str, Callable[[Backbone], bool]] = {
    "visual_prompts": lambda backbone: backbone.vision.has_prompts,
    "local_features": lambda backbone: backbone.vision.n_local > 0,
    "deep_text_prompts": lambda backbone: backbone.text.layers > 0,
    "text_deltas": lambda backbone: backbone.text.takes_deltas,
    "image_deltas": lambda backbone: backbone.vision.takes_deltas,
}


def lacking(needs: Iterable[str], backbone: Backbone) -> list[str]:
    """Those of a method's requirements that a backbone does not meet, sorted."""
    return sorted(need for need in needs if need not in _OFFERS or not _OFFERS[need](backbone))


def capabilities(backbone: Backbone) -> Capabilities:
    """Of a backbone that is loaded."""
    text, vision = backbone.text, backbone.vision
    return Capabilities(
        text=text.tower.kind,
        context_length=text.context_length,
        text_layers=text.layers,
        shared_prefix=isinstance(text.tower, CausalTower),
        text_deltas=text.takes_deltas,
        image=vision.kind,
        image_size=backbone.preprocess.sides,
        grid=vision.grid if vision.n_local else None,
        local=_local(vision) if vision.n_local else None,
        visual_prompts=vision.has_prompts,
        image_deltas=vision.takes_deltas,
        image_layers=vision.layers,
        joint_dim=vision.joint_dim,
    )


def _local(vision: VisionEngine) -> str:
    if not isinstance(vision, TokenEngine):
        return "each position alone through pool and head"
    if vision.tower.pooled is None:
        return "each patch alone through the pool"
    return "value path of the last block, or its tokens"

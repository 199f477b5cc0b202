"""What a backbone's towers can do, told by the engines and not by names."""

from __future__ import annotations

from dataclasses import dataclass

from vlmprompt.backbones.backbone import Backbone


@dataclass(frozen=True)
class Capabilities:
    """For people, and for methods that need something of a tower.

    Attributes:
        text: kind of text tower.
        context_length: longest text in tokens.
        text_layers: layers that deep text prompts can name.
        image: kind of image tower.
        grid: rows and columns of local features; None where there are none.
        visual_prompts: whether the image tower takes prompt tokens.
    """

    text: str
    context_length: int
    text_layers: int
    image: str
    grid: tuple[int, int] | None
    visual_prompts: bool


def offered(backbone: Backbone) -> frozenset[str]:
    """What methods may require of a backbone, by the names of `REQUIREMENTS`."""
    has = {"visual_prompts": backbone.vision.has_prompts, "deep_text_prompts": backbone.text.layers > 0}
    return frozenset(need for need, there in has.items() if there)


def capabilities(backbone: Backbone) -> Capabilities:
    """Of a backbone that is loaded."""
    text, vision = backbone.text, backbone.vision
    return Capabilities(
        text=text.tower.kind,
        context_length=text.context_length,
        text_layers=text.layers,
        image=vision.kind,
        grid=vision.grid if vision.n_local else None,
        visual_prompts=vision.has_prompts,
    )

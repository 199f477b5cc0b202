"""IVLP: prompts in the layers of both towers that know nothing of each other.

Shapes: J prompted layers, L prompt tokens a layer, d_l and d_v widths of the text and image towers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from vlmprompt.api import Field, ImageNeeds, MethodConfig, PromptMethod, TextPrompts, VisualPrompts, gaussian
from vlmprompt_baselines.layers import CTX_INIT, initial_layers, layered_text, opening, prompted_layers


class IVLPConfig(MethodConfig):
    """Options of IVLP."""

    n_ctx_text: int = Field(2, ge=1, description="prompt tokens a layer of the text tower; code: 2")
    n_ctx_vision: int = Field(2, ge=1, description="prompt tokens a layer of the image tower; code: 2")
    depth_text: int | None = Field(
        None, ge=1, description="text layers with prompts, from the first; null: 12 (code), or all of a shallower tower"
    )
    depth_vision: int | None = Field(
        None,
        ge=0,
        description="image layers with prompts, from the first; null: 12 (code), or all of a shallower tower; "
        "0: none, prompts in the text alone",
    )
    ctx_init: str | None = Field("a photo of a", description=CTX_INIT)


class IVLP(PromptMethod):
    """Independent vision-language prompting, a baseline of MaPLe (Khattak et al., CVPR 2023) and PromptSRC.

    In each of its first J layers a tower has prompts of its own: `text_prompts` (J,L,d_l) replace the first
    tokens of the text, `visual_prompts` (J,L,d_v) the last tokens of the image; behind them the tokens flow
    on. logits = s * cos(z, w_k), cross-entropy. Image prompts of the first layer enter before `ln_pre`, without
    positional embedding.

    Same as the official code, but the text that is read at the start may be any, and all stays in fp32.
    """

    capabilities = frozenset({"new_classes"})
    requires = frozenset({"visual_prompts", "deep_text_prompts"})
    usual_depth: ClassVar[int] = 12
    config: IVLPConfig

    def create(self) -> None:
        """The prompts of both towers."""
        text, vision, c = self.backbone.text, self.backbone.vision, self.config
        in_text = prompted_layers("depth_text", c.depth_text, self.usual_depth, text.layers)
        self.depth_vision = prompted_layers("depth_vision", c.depth_vision, self.usual_depth, vision.layers)
        first_LD, self.words = opening(text, c.ctx_init, c.n_ctx_text)
        self.add_parameter("text_prompts", initial_layers(first_LD, in_text, c.n_ctx_text, text.width, self.generator))
        if self.depth_vision:
            start = gaussian(self.depth_vision, c.n_ctx_vision, vision.width, generator=self.generator)
            self.add_parameter("visual_prompts", start)
        else:
            self.capabilities = self.capabilities | {"feature_cache"}

    def image_needs(self) -> ImageNeeds:
        """Gradients reach the image prompts through the image tower."""
        return ImageNeeds(grad=self.depth_vision > 0)

    def text_prompts(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextPrompts:
        """The text prompts of each layer."""
        return layered_text(self.parameter("text_prompts"), self.words)

    def visual_prompts(self, *, draws: Mapping[str, Tensor] | None = None) -> VisualPrompts:
        """The image prompts of each layer: (L,d_v)."""
        return VisualPrompts(dict(enumerate(self.parameter("visual_prompts"))) if self.depth_vision else {})

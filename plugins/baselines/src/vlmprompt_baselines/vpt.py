"""VPT: prompts in the image tower alone.

Shapes: J prompted layers, L prompt tokens a layer, d_v image-tower width, K classes, d joint width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from vlmprompt.api import (
    ForeignState,
    ImageNeeds,
    PromptMethod,
    TextFeatures,
    VisualPrompts,
    class_text,
    dassl_state,
    gaussian,
)
from vlmprompt_baselines.config import VPTConfig
from vlmprompt_baselines.layers import prompted_layers, stacked, tower_prompts


class VPT(PromptMethod):
    """Visual Prompt Tuning (Jia et al., ECCV 2022) of CLIP, as the baseline of MaPLe (Khattak et al., CVPR 2023).

    In each of the first J layers, `visual_prompts` (J,L,d_v) replace the last L tokens of the image, behind
    them they flow on; in the first they enter before `ln_pre`, without positional embedding. The text is
    "a photo of a {name k}." for every data set, frozen, and encoded once. logits = s * cos(z, w_k),
    cross-entropy. `depth=1` is VPT-shallow.

    Same as MaPLe's official code of this baseline, without the rounding of prompt tokens to fp16. VPT itself
    puts the tokens behind the class token, which with full attention is the same, and initialises otherwise. Whether
    the figures that papers print for VPT come from that code's configuration is not verified.
    """

    capabilities = frozenset({"new_classes", "several_names", "row_split"})
    requires = frozenset({"visual_prompts"})
    config: VPTConfig
    class_text_Kd: Tensor

    def create(self) -> None:
        """The prompts, and the classes' frozen text."""
        vision, c = self.backbone.vision, self.config
        layers = prompted_layers("depth", c.depth, vision.layers, vision.layers)
        self.add_parameter("visual_prompts", gaussian(layers, c.n_ctx, vision.width, generator=self.generator))
        self.register_buffer("class_text_Kd", self._class_text(), persistent=False)

    def image_needs(self) -> ImageNeeds:
        """Gradients reach the prompts through the image tower."""
        return ImageNeeds(grad=True)

    def visual_prompts(self, *, draws: Mapping[str, Tensor] | None = None) -> VisualPrompts:
        """The prompts of each layer: (L,d_v)."""
        return VisualPrompts(dict(enumerate(self.parameter("visual_prompts"))))

    def encode_text(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextFeatures:
        """The frozen text (1,K,d), encoded before."""
        return TextFeatures(self.class_text_Kd[None])

    def renew(self, template: str | None) -> None:
        """Other classes stand in the same text."""
        self.class_text_Kd = self._class_text()

    @classmethod
    def foreign_state(cls, content: Mapping[str, Any]) -> ForeignState:
        """The prompts of MaPLe's code of this baseline, which stand among the weights of the image tower."""
        saved = dassl_state(content, "VPT's code")
        names = tower_prompts(saved, "image_encoder.VPT", "image_encoder")
        saved.require(names)
        prompts_JLD = stacked(saved, names)
        options = {"depth": len(names), "n_ctx": prompts_JLD.shape[1]}
        return replace(saved, state={"visual_prompts": prompts_JLD}, options=options)

    def _class_text(self) -> Tensor:
        return class_text(self.backbone.text, self.config.template, self.class_names)

"""IVLP: prompts in the layers of both towers that know nothing of each other.

Shapes: J prompted layers, L prompt tokens a layer, d_l and d_v widths of the text and image towers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from vlmprompt.api import ForeignState, ImageNeeds, PromptMethod, TextPrompts, VisualPrompts, dassl_state, gaussian
from vlmprompt_baselines.config import IVLPConfig
from vlmprompt_baselines.layers import (
    initial_layers,
    layered_text,
    opening,
    prompted_layers,
    stacked,
    tower_prompts,
)


class IVLP(PromptMethod):
    """Independent vision-language prompting, a baseline of MaPLe (Khattak et al., CVPR 2023) and PromptSRC.

    In each of its first J layers a tower has prompts of its own: `text_prompts` (J,L,d_l) replace the first
    tokens of the text, `visual_prompts` (J,L,d_v) the last tokens of the image; behind them the tokens flow
    on. logits = s * cos(z, w_k), cross-entropy. Image prompts of the first layer enter before `ln_pre`, without
    positional embedding.

    Same as the official code, but the text that is read at the start may be any, and all stays in fp32.
    """

    capabilities = frozenset({"new_classes", "class_shard", "row_split"})
    requires = frozenset({"visual_prompts", "deep_text_prompts"})
    usual_depth: ClassVar[int] = 12
    # How names begin of what the official code saves beside the prompts.
    saved_beside: ClassVar[tuple[str, ...]] = ()
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

    @classmethod
    def foreign_state(cls, content: Mapping[str, Any]) -> ForeignState:
        """The official code's prompts: those of deeper layers stand among the weights of the towers."""
        saved = dassl_state(content, f"{cls.__name__}'s code", unused=cls.saved_beside)
        text = tower_prompts(saved, "ctx", "text_encoder")
        vision = tower_prompts(saved, "image_encoder.VPT", "image_encoder")
        if vision[0] not in saved.state and len(text) > 1:
            vision = []
        saved.require([*text, *vision])
        state = {"text_prompts": stacked(saved, text)}
        options = {"depth_text": len(text), "n_ctx_text": state["text_prompts"].shape[1], "depth_vision": len(vision)}
        if vision:
            state["visual_prompts"] = stacked(saved, vision)
            options["n_ctx_vision"] = state["visual_prompts"].shape[1]
        return replace(saved, state=state, options=options)

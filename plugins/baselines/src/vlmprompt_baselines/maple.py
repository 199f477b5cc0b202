"""MaPLe: prompts in the layers of both towers, those of the image made of those of the text.

Shapes: J prompted layers, L prompt tokens a layer, d_l and d_v widths of the text and image towers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from vlmprompt.api import (
    ForeignState,
    ImageNeeds,
    PromptMethod,
    TextPrompts,
    VisualPrompts,
    dassl_state,
    seeded_linear,
)
from vlmprompt_baselines.config import MaPLeConfig
from vlmprompt_baselines.layers import initial_layers, layered_text, opening, prompted_layers, stacked

USUAL_DEPTH = 9


class MaPLe(PromptMethod):
    """MaPLe: Multi-modal Prompt Learning (Khattak et al., CVPR 2023).

    In each of the first J layers, P (L,d_l) replaces the first tokens of the text and its image under a linear
    map of that layer, W P + b (L,d_v), the last L tokens of the image; behind them the tokens flow on.
    logits = s * cos(z, w_k), cross-entropy. Learned are `text_prompts` (J,L,d_l) and `projections.<layer>`.
    Prompts of the first layer enter before the image tower's `ln_pre`, without positional embedding.

    Same as the official code, but the text that is read at the start may be any, and all stays in fp32.
    """

    capabilities = frozenset({"new_classes", "class_shard", "row_split"})
    requires = frozenset({"visual_prompts", "deep_text_prompts"})
    config: MaPLeConfig

    def create(self) -> None:
        """Text prompts and the maps to image prompts."""
        text, vision, c = self.backbone.text, self.backbone.vision, self.config
        layers = prompted_layers("depth", c.depth, USUAL_DEPTH, min(text.layers, vision.layers))
        first_LD, self.words = opening(text, c.ctx_init, c.n_ctx)
        self.add_parameter("text_prompts", initial_layers(first_LD, layers, c.n_ctx, text.width, self.generator))
        self.projections = nn.ModuleList(
            seeded_linear(text.width, vision.width, generator=self.generator) for _ in range(layers)
        )

    def image_needs(self) -> ImageNeeds:
        """Gradients reach the prompts through the image tower, too."""
        return ImageNeeds(grad=True)

    def text_prompts(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextPrompts:
        """P of each layer."""
        return layered_text(self.parameter("text_prompts"), self.words)

    def visual_prompts(self, *, draws: Mapping[str, Tensor] | None = None) -> VisualPrompts:
        """W P + b of each layer: (L,d_v)."""
        pairs = zip(self.projections, self.parameter("text_prompts"), strict=True)
        return VisualPrompts({layer: project(own_Ld) for layer, (project, own_Ld) in enumerate(pairs)})

    @classmethod
    def foreign_state(cls, content: Mapping[str, Any]) -> ForeignState:
        """The official code's prompts: those of the first layer have names of their own, deeper ones a number."""
        saved = dassl_state(content, "MaPLe's code")
        depth = 1 + sum(name.startswith("compound_prompts_text.") for name in saved.state)
        prompts = ["ctx", *(f"compound_prompts_text.{i}" for i in range(depth - 1))]
        maps = ["proj", *(f"compound_prompt_projections.{i}" for i in range(depth - 1))]
        kinds = ("weight", "bias")
        saved.require([*prompts, *(f"{own}.{kind}" for own in maps for kind in kinds)])
        state = {
            f"projections.{i}.{kind}": saved.state[f"{own}.{kind}"] for i, own in enumerate(maps) for kind in kinds
        }
        state["text_prompts"] = stacked(saved, prompts)
        return replace(saved, state=state, options={"n_ctx": state["text_prompts"].shape[1], "depth": depth})

"""MaPLe: prompts in the layers of both towers, those of the image made of those of the text.

Shapes: J prompted layers, L prompt tokens a layer, d_l and d_v widths of the text and image towers.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from vlmprompt.api import Field, ImageNeeds, MethodConfig, PromptMethod, TextPrompts, VisualPrompts, seeded_linear
from vlmprompt_baselines.layers import CTX_INIT, initial_layers, layered_text, opening, prompted_layers

USUAL_DEPTH = 9


class MaPLeConfig(MethodConfig):
    """Options of MaPLe."""

    n_ctx: int = Field(2, ge=1, description="prompt tokens a layer and tower; paper: 2")
    ctx_init: str | None = Field("a photo of a", description=CTX_INIT)
    depth: int | None = Field(
        None,
        ge=1,
        description="layers with prompts, from the first; null: 9 (paper), or all of a shallower tower; "
        "paper, cross-dataset: 3",
    )


class MaPLe(PromptMethod):
    """MaPLe: Multi-modal Prompt Learning (Khattak et al., CVPR 2023).

    In each of the first J layers, P (L,d_l) replaces the first tokens of the text and its image under a linear
    map of that layer, W P + b (L,d_v), the last L tokens of the image; behind them the tokens flow on.
    logits = s * cos(z, w_k), cross-entropy. Learned are `text_prompts` (J,L,d_l) and `projections.<layer>`.
    Prompts of the first layer enter before the image tower's `ln_pre`, without positional embedding.

    Same as the official code, but the text that is read at the start may be any, and all stays in fp32.
    """

    capabilities = frozenset({"new_classes"})
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

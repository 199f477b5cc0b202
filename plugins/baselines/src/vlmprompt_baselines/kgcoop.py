"""KgCoOp: learned context words that stay near the hand-written text.

Shapes: K classes, V context tokens, D text width, d joint width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from vlmprompt.api import (
    ForeignState,
    Losses,
    MethodOutput,
    PromptMethod,
    TextPrompts,
    class_text,
    context_options,
    cross_entropy,
    dassl_state,
    initial_context,
)
from vlmprompt_baselines.config import KgCoOpConfig

# The official code makes and saves these, trains them not, and reads them nowhere.
UNUSED = ("bias_vectors", "meta_net.linear1.")


class KgCoOp(PromptMethod):
    """Visual-Language Prompt Tuning with Knowledge-guided Context Optimization (Yao et al., CVPR 2023).

    Text and logits are CoOp's, "[v_1] .. [v_V] {name k}." and s * cos(z, w_k). The loss is
    CE + weight * (1 - mean_k cos(w_k, t_k)), with t_k the frozen feature of the hand-written text; the distance
    is half the squared Euclidean one. Learned is `ctx` (V,D); the buffer `teacher_text_Kd` holds the t_k.

    Same as the official code, except that it takes "a photo of a" whatever initial words are asked for. The
    weight is the code's; the paper's text was not compared.
    """

    capabilities = frozenset({"new_classes", "feature_cache", "class_shard", "row_split"})
    config: KgCoOpConfig
    teacher_text_Kd: Tensor

    def create(self) -> None:
        """The context, and what it is held to."""
        engine = self.backbone.text
        self.ctx = nn.Parameter(initial_context(self.config, engine, self.generator))
        teacher_Kd = class_text(engine, self.config.teacher_template, self.class_names)
        self.register_buffer("teacher_text_Kd", teacher_Kd, persistent=False)

    def text_prompts(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextPrompts:
        """One prompt, the class name at its end."""
        return TextPrompts(self.ctx[None])

    def loss(
        self,
        output: MethodOutput,
        labels: Tensor,
        *,
        draws: Mapping[str, Tensor] | None = None,
        weights: Tensor | None = None,
    ) -> Losses:
        """Cross-entropy (of weighted images) and the weighted distance; parts `ce` and `distance`."""
        ce = cross_entropy(output.logits, labels, weights)
        (text_Kd,) = output.aux["text_PKd"]
        distance = 1 - (text_Kd * self.teacher_text_Kd).sum(dim=-1).mean()
        total = ce + self.config.weight * distance
        return Losses(total, {"ce": ce.detach(), "distance": distance.detach()})

    @classmethod
    def foreign_state(cls, content: Mapping[str, Any]) -> ForeignState:
        """`ctx` of the official code; class-specific contexts, which it can have, are none of this method's."""
        saved = dassl_state(content, "KgCoOp's code", unused=UNUSED)
        saved.require(["ctx"])
        return replace(saved, options=context_options(saved.tensor("ctx", 2)))

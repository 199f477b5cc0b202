"""CoOp: learned context words.

Shapes: K classes, V context tokens, D text width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from vlmprompt.backbones.types import TextPrompts
from vlmprompt.errors import InputError
from vlmprompt.methods.config import CoOpConfig
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.foreign import ForeignState, context_options, dassl_state
from vlmprompt.methods.initial import initial_context


class CoOp(PromptMethod):
    """Context Optimization (Zhou et al., IJCV 2022).

    The text of class k is "[v_1] .. [v_V] {name k}." with learned v; logits = s * cos(z, w_k), cross-entropy.
    `ctx` is (V,D), or (K,V,D) if class-specific. Same as the official code, where a middle class name stands
    behind V // 2 tokens. Differs from it: initial words also serve class-specific contexts (it drops
    the latter without a word), and the context stays in fp32. The full stop is not there for towers whose tokenizer
    removes punctuation (SigLIP), nor the start token that stands before the context for towers that have none.
    """

    capabilities = frozenset({"new_classes", "feature_cache", "class_shard", "row_split"})
    config: CoOpConfig

    def create(self) -> None:
        """The context; class-specific ones cannot serve new classes."""
        lead: tuple[int, ...] = ()
        if self.config.class_specific:
            lead = (len(self.class_names),)
            self.capabilities = self.capabilities - {"new_classes"}
        self.ctx = nn.Parameter(initial_context(self.config, self.backbone.text, self.generator, lead=lead))

    def text_prompts(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextPrompts:
        """One prompt: the context, and where the class name stands."""
        return TextPrompts(
            self.ctx.unsqueeze(-3),
            scope="class" if self.config.class_specific else "shared",
            position=self.config.class_position,
        )

    @classmethod
    def foreign_state(cls, content: Mapping[str, Any]) -> ForeignState:
        """`ctx` of the official code, (V,D) or class-specific (K,V,D); where the class name stands is not in it."""
        saved = dassl_state(content, f"{cls.__name__}'s code")
        saved.require(["ctx"])
        ctx = saved.tensor("ctx", 2, 3)
        own = ctx.dim() == 3
        if own and saved.classes not in (None, len(ctx)):
            raise InputError(
                f"the checkpoint holds {len(ctx)} contexts and {saved.classes} texts: these are no class-specific "
                f"contexts of {saved.code}, which has one for each"
            )
        options = {**context_options(ctx), "class_specific": own}
        return replace(saved, options=options, classes=len(ctx) if own else saved.classes)

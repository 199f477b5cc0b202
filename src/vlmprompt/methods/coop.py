"""CoOp: learned context words.

Shapes: K classes, V context tokens, D text width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field
from torch import Tensor, nn

from vlmprompt.backbones.types import ClassPosition, TextPrompts
from vlmprompt.errors import InputError
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.foreign import ForeignState, context_options, dassl_state
from vlmprompt.methods.initial import ContextConfig, initial_context


class CoOpConfig(ContextConfig):
    """Options of CoOp."""

    n_ctx: int = Field(16, ge=1, description="context tokens; paper: 16. With ctx_init, its words count")
    ctx_init: str | None = Field(
        None,
        description='words whose embeddings are the initial context, such as "a photo of a"; '
        "null: N(0, 0.02^2) (paper)",
    )
    class_position: ClassPosition = Field(
        "end", description="place of the class name: behind, amid, or before the context; paper: end"
    )
    class_specific: bool = Field(
        False,
        description="a context for every class, which cannot serve new classes; paper: off and on",
    )


class CoOp(PromptMethod):
    """Context Optimization (Zhou et al., IJCV 2022).

    The text of class k is "[v_1] .. [v_V] {name k}." with learned v; logits = s * cos(z, w_k), cross-entropy.
    `ctx` is (V,D), or (K,V,D) if class-specific. Same as the official code, where a middle class name stands
    behind V // 2 tokens. Differs from it: initial words also serve class-specific contexts (it drops
    the latter without a word), and the context stays in fp32.
    """

    capabilities = frozenset({"new_classes", "feature_cache"})
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

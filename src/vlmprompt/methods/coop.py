"""CoOp: learned context words.

Shapes: K classes, V context tokens, D text width.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor, nn

from vlmprompt.backbones.types import ClassPosition, TextPrompts
from vlmprompt.methods.contract import PromptMethod
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
    the latter without a word), and the context stays in fp32. The full stop is not there for towers whose tokenizer
    removes punctuation (SigLIP), nor the start token that stands before the context for towers that have none.
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

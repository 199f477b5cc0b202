"""CoOp: learned context words.

Shapes: K classes, V context tokens, D text width.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor, nn

from vlmprompt.backbones.text import TextEngine
from vlmprompt.backbones.types import ClassPosition, TextPrompts
from vlmprompt.errors import InputError
from vlmprompt.methods.contract import MethodConfig, PromptMethod

if TYPE_CHECKING:
    from vlmprompt.backbones.backbone import Backbone

INIT_STD = 0.02


class CoOpConfig(MethodConfig):
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

    def __init__(
        self,
        backbone: Backbone,
        class_names: Sequence[str],
        config: CoOpConfig,
        *,
        descriptions: Sequence[Sequence[str]] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(backbone, class_names, config, descriptions=descriptions, generator=generator)
        lead = (len(class_names),) if config.class_specific else ()
        if config.class_specific:
            self.capabilities = self.capabilities - {"new_classes"}
        if config.ctx_init:
            ctx_VD = embedded_words(backbone.text, config.ctx_init)
            if config.n_ctx not in (CoOpConfig.model_fields["n_ctx"].default, len(ctx_VD)):
                warnings.warn(
                    f"n_ctx = {config.n_ctx} has no effect: {config.ctx_init!r} is {len(ctx_VD)} tokens",
                    stacklevel=2,
                )
            ctx = ctx_VD.expand(*lead, -1, -1).clone()
        else:
            shape = (*lead, config.n_ctx, backbone.text.width)
            ctx = INIT_STD * torch.randn(shape, generator=self.generator)
        self.ctx = nn.Parameter(ctx)

    def text_prompts(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextPrompts:
        """One prompt: the context, and where the class name stands."""
        return TextPrompts(
            self.ctx.unsqueeze(-3),
            scope="class" if self.config.class_specific else "shared",
            position=self.config.class_position,
        )


def embedded_words(engine: TextEngine, words: str) -> Tensor:
    """Token embeddings (V,D) of initial words; underscores are read as spaces.

    Raises:
        InputError: the text holds no words.
    """
    ctx_VD = engine.embed_words(words.replace("_", " "))
    if not len(ctx_VD):
        raise InputError(f"ctx_init {words!r} holds no words", hint='such as "a photo of a"')
    return ctx_VD

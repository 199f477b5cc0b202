"""CoCoOp: a context that depends on the image.

Shapes: B images, V context tokens, D text width, d joint width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from vlmprompt.api import (
    CapabilityError,
    ForeignState,
    PromptMethod,
    TextPrompts,
    context_options,
    dassl_state,
    initial_context,
    meta_net,
    unit,
)
from vlmprompt_baselines.config import CoCoOpConfig

# The maps of `meta_net`: the official code's name -> ours.
MAPS = {"linear1": "0", "linear2": "2"}


class CoCoOp(PromptMethod):
    """Conditional Prompt Learning for Vision-Language Models (Zhou et al., CVPR 2022).

    The text of class k for image b is "[v_1 + m_b] .. [v_V + m_b] {name k}." with m_b = h(z_b / |z_b|), where
    h is a linear map to d/16, ReLU, and a linear map to D; logits = s * cos(z_b, w_k(b)), cross-entropy.
    Learned are `ctx` (V,D) and `meta_net`. Every class is encoded anew for every image.

    Same as the official code, but all learned tensors stay in fp32, and a batch is one pass over the text tower.
    """

    capabilities = frozenset({"new_classes", "feature_cache", "image_conditioned", "row_split"})
    config: CoCoOpConfig

    def create(self) -> None:
        """The context and the network that shifts it."""
        self.ctx = nn.Parameter(initial_context(self.config, self.backbone.text, self.generator))
        d, D = self.backbone.vision.joint_dim, self.backbone.text.width
        self.meta_net = meta_net(d, D, generator=self.generator)

    def text_prompts(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextPrompts:
        """One prompt for each image: (B,1,V,D).

        Raises:
            CapabilityError: no image feature is given.
        """
        if global_Bd is None:
            raise CapabilityError("the text of CoCoOp depends on the image: its global feature is needed")
        shift_BD = self.meta_net(unit(global_Bd))
        return TextPrompts((self.ctx + shift_BD[:, None])[:, None], scope="image")

    def shared_text_prompts(self) -> TextPrompts:
        """The context before an image shifts it."""
        return TextPrompts(self.ctx[None])

    @classmethod
    def foreign_state(cls, content: Mapping[str, Any]) -> ForeignState:
        """`ctx` and the two linear maps of the official code."""
        saved = dassl_state(content, "CoCoOp's code")
        names = {
            f"meta_net.{theirs}.{kind}": f"meta_net.{ours}.{kind}"
            for theirs, ours in MAPS.items()
            for kind in ("weight", "bias")
        }
        saved.require(["ctx", *names])
        state = {names.get(name, name): tensor for name, tensor in saved.state.items()}
        return replace(saved, state=state, options=context_options(saved.tensor("ctx", 2)))

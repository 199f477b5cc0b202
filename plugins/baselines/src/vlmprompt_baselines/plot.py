"""PLOT: several contexts, each matched with other parts of the image.

Shapes: B images, K classes, M local positions, N prompts, V context tokens, d joint width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vlmprompt.api import (
    Field,
    ImageFeatures,
    ImageNeeds,
    MethodConfig,
    MethodOutput,
    PromptMethod,
    TextFeatures,
    TextPrompts,
    gaussian,
    transport_plan,
    unit,
)


class PLOTConfig(MethodConfig):
    """Options of PLOT."""

    n_prompts: int = Field(4, ge=1, description="contexts; paper: 4")
    n_ctx: int = Field(16, ge=1, description="context tokens of each; paper: 16")
    sinkhorn_lambda: float = Field(0.1, gt=0, description="strength of the plan's entropy term; paper: 0.1")
    max_iter: int = Field(100, ge=1, description="most Sinkhorn iterations; paper: 100")
    tol: float = Field(
        0.01, ge=0, description="iterations end when the scaling changes by less than this in the mean; code: 0.01"
    )
    add_global: bool = Field(
        False, description="add the logit of the global feature; code: on for ImageNet, which the shipped override sets"
    )
    local_features: Literal["auto", "tokens", "value_block"] = Field(
        "auto",
        description="tokens: outputs of the last layer or attention pool; value_block: without attention; "
        "auto: tokens for a ResNet (code), value_block for a ViT, of which the code knows none",
    )


class PLOT(PromptMethod):
    """PLOT: Prompt Learning with Optimal Transport for Vision-Language Models (Chen et al., ICLR 2023).

    N contexts make N text features w_kn of each class "[v_n1] .. [v_nV] {name k}.". With local image features
    z_m, T is the plan between them and the prompts that minimises sum T (1 - cos) - lambda H(T) under uniform
    marginals, by Sinkhorn's iterations, and logits = s * sum_mn T_mn cos(z_m, w_kn), T taken as a constant;
    cross-entropy. `add_global` adds s * cos(z, mean_n of the raw w_kn). Learned is `ctx` (N,V,D).

    Same as the official code, whose iterations end by the mean over the batch, so that an image's logits depend
    a little on the images beside it. It is for ResNets; local features of a ViT are GalLoP's here. Equals
    DUAL-PT with alpha = beta = 0 and that stopping rule.
    """

    capabilities = frozenset({"new_classes", "feature_cache", "local"})
    requires = frozenset({"local_features"})
    config: PLOTConfig

    def create(self) -> None:
        """The contexts."""
        c = self.config
        self.ctx = nn.Parameter(gaussian(c.n_prompts, c.n_ctx, self.backbone.text.width, generator=self.generator))

    def image_needs(self) -> ImageNeeds:
        """Local features in joint space."""
        kind = self.config.local_features
        if kind == "auto":
            kind = "value_block" if self.backbone.is_vit else "tokens"
        return ImageNeeds(local=kind)

    def text_prompts(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextPrompts:
        """All contexts, the class name at the end of each."""
        return TextPrompts(self.ctx)

    def classify(self, features: ImageFeatures, text: TextFeatures, **method_options: Any) -> MethodOutput:
        """Scaled sums of the matched cosines; with `keep_plan=True` the plan (B,K,M,N) is in `aux`."""
        c = self.config
        output = super().classify(features, text)
        assert output.local is not None
        Z_BMd, W_KNd = output.local.features_BNd, text.unit_PKd.transpose(0, 1)
        with torch.autocast(Z_BMd.device.type, enabled=False):
            plan_BKMN = transport_plan(
                Z_BMd, W_KNd, alpha=0.0, lambda_=c.sinkhorn_lambda, stop="plot", max_inner=c.max_iter, tol_inner=c.tol
            )
            matched_BK = (plan_BKMN * torch.einsum("bmd,knd->bkmn", Z_BMd, W_KNd)).sum(dim=(-2, -1))
            if c.add_global:
                matched_BK = matched_BK + features.unit_Bd @ unit(text.features_PKd.float().mean(dim=0)).T
        aux = {"plan": plan_BKMN} if method_options.get("keep_plan") else {}
        return replace(output, logits=output.scale * matched_BK, global_cosines=None, aux=aux)

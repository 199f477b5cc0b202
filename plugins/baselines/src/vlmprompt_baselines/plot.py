"""PLOT: several contexts, each matched with other parts of the image.

Shapes: B images, K classes, M local positions, N prompts, V context tokens, d joint width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from vlmprompt.api import (
    ForeignState,
    ImageFeatures,
    ImageNeeds,
    InputError,
    MethodOutput,
    PatchMap,
    PromptMethod,
    TextFeatures,
    TextPrompts,
    at_least_float,
    dassl_state,
    gaussian,
    plan_maps,
    transport_plan,
    unit,
)
from vlmprompt_baselines.config import PLOTConfig


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

    capabilities = frozenset({"new_classes", "feature_cache", "local", "class_shard"})
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
                matched_BK = matched_BK + features.unit_Bd @ unit(at_least_float(text.features_PKd).mean(dim=0)).T
        aux = {"image_Bd": features.unit_Bd} | ({"plan": plan_BKMN} if method_options.get("keep_plan") else {})
        return replace(output, logits=output.scale * matched_BK, global_cosines=None, aux=aux)

    def patch_maps(self, output: MethodOutput, labels_B: Tensor) -> Sequence[PatchMap]:
        """Each prompt's share of the plan, and the local cosines with the mean of the prompts."""
        return [*plan_maps(output.aux["plan"], labels_B), *super().patch_maps(output, labels_B)]

    @classmethod
    def foreign_state(cls, content: Mapping[str, Any]) -> ForeignState:
        """`ctx` (N,V,D) of the official code, which saves the texts of each class N times."""
        saved = dassl_state(content, "PLOT's code")
        saved.require(["ctx"])
        n_prompts, n_ctx, _ = saved.tensor("ctx", 3).shape
        texts = saved.classes
        if texts is not None and (texts % n_prompts or texts == n_prompts):
            raise InputError(
                f"the checkpoint holds {n_prompts} contexts and {texts} texts: {saved.code} has every context "
                "in a text of every class"
            )
        options = {"n_prompts": n_prompts, "n_ctx": n_ctx}
        return replace(saved, options=options, classes=None if texts is None else texts // n_prompts)

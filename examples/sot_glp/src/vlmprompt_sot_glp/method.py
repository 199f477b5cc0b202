"""SOT-GLP: global prompts, and local prompts of each class that share out its best patches by optimal transport.

Shapes: B images, K classes, N patches (k of them chosen), m global and n local prompts, V context tokens, D text width,
d joint width, C width of patches before the tower's projection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vlmprompt.api import (
    ClassTokens,
    ImageFeatures,
    ImageNeeds,
    InputError,
    LocalView,
    Losses,
    MethodOutput,
    PatchMap,
    PromptMethod,
    TextFeatures,
    TextPrompts,
    cost_plan,
    cross_entropy,
    plan_maps,
    topk_cosines,
    unit,
)
from vlmprompt_sot_glp.config import SOTGLPConfig

WORDS = "A photo of a"


class LocalProjection(nn.Module):
    """The linear map of patches, without bias; it starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=False, device="meta")  # draws no random numbers
        self.linear.weight = nn.Parameter(torch.eye(width))


class SOTGLP(PromptMethod):
    """SOT-GLP, a successor of GalLoP (released code: Deniz2304988/SOT-GLP).

    m global prompts are matched with the whole image, cosines G (B,K,m). Each class has n local prompts of its own,
    matched with patches that a learned matrix maps: of an image and a class, the k patches of the highest mean cosine
    over the prompts, C (k,n), and T the entropic plan of costs 1 - C under uniform marginals, a constant; the local
    logit is L = <T, C> / n. Logits are s (mean_i G + L) / 2; the loss is the cross-entropy of s G under GalLoP's prompt
    dropout plus that of s L. The text of a class is "[v_1] .. [v_V] {name}" without a full stop, underscores as they
    are. Patches are those of value attention in all blocks (`ImageNeeds(local="value_attention")`).

    Same as the released code, slips included that change numbers: L is n times smaller than a cosine (`scale_by_n`),
    and the path of patches also holds the first block's ordinary attention. The paper was not read. Scores such as
    GL-MCM are dense: they take all patches beside the mean of a class's local prompts, without transport.
    """

    capabilities = frozenset({"feature_cache", "local"})
    requires = frozenset({"local_features"})
    config: SOTGLPConfig

    def create(self) -> None:
        """Global prompts are copies of "A photo of a"; local ones are random; the map is the identity."""
        c, engine = self.config, self.backbone.text
        words_VD = engine.embed_words(WORDS)
        words_VD = words_VD[torch.arange(c.n_ctx) % len(words_VD)]
        self.global_prompt = nn.Parameter(words_VD.expand(c.n_global, -1, -1).clone())
        shape = (len(self.class_names), c.n_local, c.n_ctx, engine.width)
        self.local_prompts = nn.Parameter(self._initial_local(*shape))
        self.local_proj = LocalProjection(self.backbone.vision.local_width)

    def image_needs(self) -> ImageNeeds:
        """The pooled feature, and patches from before the place of the learned map."""
        return ImageNeeds(local="value_attention", space="pre_proj")

    def class_tokens(self, names: Sequence[str]) -> ClassTokens:
        """The bare name, no full stop, underscores as they are."""
        return self.backbone.text.class_tokens(names, tail="", keep_underscores=True)

    def text_prompts(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextPrompts:
        """The global prompts; those of each class are encoded beside them, see `encode_text`."""
        return TextPrompts(self.global_prompt)

    def encode_text(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextFeatures:
        """Global, then local: (m + n, K, d)."""
        local = TextPrompts(self.local_prompts, scope="class")
        parts = [self.backbone.text.encode(prompts, self.classes) for prompts in (self.text_prompts(), local)]
        return TextFeatures(torch.cat(parts))

    def classify(self, features: ImageFeatures, text: TextFeatures, **method_options: Any) -> MethodOutput:
        """Logits of both branches.

        Returns:
            `aux` has `global_cosines_BKm` and `local_BK`; with `keep_plan=True` also `plan_BKkn` and `patches_BKk`.
        """
        m = self.config.n_global
        global_mKd, local_nKd = text.unit_PKd[:m], text.unit_PKd[m:]
        with torch.autocast(features.global_Bd.device.type, enabled=False):
            patches_BNd = self.local_features(features)
            cosines_BKm = torch.einsum("bd,mkd->bkm", features.unit_Bd, global_mKd)
            local_BK, plan = self._matched(patches_BNd, local_nKd)
        mean_BK = cosines_BKm.mean(dim=-1)
        aux = {"global_cosines_BKm": cosines_BKm, "local_BK": local_BK}
        aux |= plan if method_options.get("keep_plan") else {}
        logits_BK = self.scale * (mean_BK + local_BK) / 2
        return MethodOutput(logits_BK, self.scale, mean_BK, LocalView(patches_BNd, local_nKd.mean(dim=0)), aux)

    def local_features(self, features: ImageFeatures) -> Tensor:
        """Patches in joint space behind the learned map, of unit length: (B,N,d)."""
        patches_BNC = features.local_BNc
        assert patches_BNC is not None
        map_Cd, projection_Cd = self.local_proj.linear.weight.T, self.backbone.vision.projection
        # One product with the patches in place of two: the maps are small, the patches are many.
        map_Cd = map_Cd if projection_Cd is None else map_Cd @ projection_Cd.to(map_Cd)
        return unit(patches_BNC.to(map_Cd) @ map_Cd)

    def _matched(self, patches_BNd: Tensor, local_nKd: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Local logits before the scale (B,K), and how they came about."""
        c = self.config
        cosines_BKkn, index_BKk = topk_cosines(patches_BNd, local_nKd, c.topk)
        plan_BKkn = cost_plan(1 - cosines_BKkn, epsilon=c.epsilon, max_iter=c.max_iter, tol=c.tol)
        matched_BK = (plan_BKkn * cosines_BKkn).sum(dim=(-2, -1))
        share = c.n_local if c.scale_by_n else 1
        return matched_BK / share, {"plan_BKkn": plan_BKkn, "patches_BKk": index_BKk}

    def loss(
        self,
        output: MethodOutput,
        labels: Tensor,
        *,
        draws: Mapping[str, Tensor] | None = None,
        weights: Tensor | None = None,
    ) -> Losses:
        """Cross-entropy of both branches, of weighted images; parts `global` and `local`.

        Args:
            draws: `dropout_idx` (B,r) int64, the global prompts that each image keeps, in place of fresh ones.
        """
        cosines_BKm = output.aux["global_cosines_BKm"]
        draws = self.dropout_draws(len(labels)) if draws is None else draws
        if "dropout_idx" in draws:
            index_BKr = draws["dropout_idx"].to(labels.device)[:, None].expand(-1, cosines_BKm.shape[1], -1)
            cosines_BKm = cosines_BKm.gather(2, index_BKr)
        parts = {
            "global": cross_entropy(output.scale * cosines_BKm.mean(dim=-1), labels, weights),
            "local": cross_entropy(output.scale * output.aux["local_BK"], labels, weights),
        }
        return Losses(parts["global"] + parts["local"], {name: part.detach() for name, part in parts.items()})

    def dropout_draws(self, n_images: int) -> Mapping[str, Tensor]:
        """What prompt dropout draws for a batch; nothing outside training."""
        if not self.training:
            return {}
        m = self.config.n_global
        kept = max(m - int(self.config.dropout_rate * m), 1)
        return {"dropout_idx": torch.randint(m, (n_images, kept), generator=self.generator)}

    def patch_maps(self, output: MethodOutput, labels_B: Tensor) -> Sequence[PatchMap]:
        """How much of each patch every local prompt takes, then the cosines with their mean."""
        assert output.local is not None
        rows_B = torch.arange(len(labels_B), device=labels_B.device)
        plan_Bkn, index_Bk = (output.aux[name][rows_B, labels_B] for name in ("plan_BKkn", "patches_BKk"))
        n_images, n_patches, _ = output.local.features_BNd.shape
        share_BNn = plan_Bkn.new_zeros(n_images, n_patches, plan_Bkn.shape[-1])
        share_BNn.scatter_(1, index_Bk[..., None].expand_as(plan_Bkn), plan_Bkn)
        own = plan_maps(share_BNn[:, None], torch.zeros_like(labels_B))
        return [*own, *super().patch_maps(output, labels_B)]

    def _initial_local(self, n_classes: int, n_local: int, n_ctx: int, width: int) -> Tensor:
        shape = (n_classes, n_local, n_ctx, width)
        if self.config.local_init == "xavier":  # torch's rule for a tensor of four dimensions
            fan_in, fan_out = n_local * n_ctx * width, n_classes * n_ctx * width
            bound = (6 / (fan_in + fan_out)) ** 0.5
            uniform: Tensor = bound * (2 * torch.rand(shape, generator=self.generator) - 1)
            return uniform
        if n_ctx > width:
            raise InputError(f"{n_ctx} context tokens of width {width} cannot be orthonormal", hint="--set n_ctx=4")
        rows = torch.randn(n_classes, n_local, width, n_ctx, generator=self.generator)
        orthonormal: Tensor = torch.linalg.qr(rows).Q
        return 1e-3 * orthonormal.mT.contiguous()

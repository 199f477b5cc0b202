"""GalLoP: global and local prompts.

Shapes: B images, K classes, N patches, m global and n local prompts, V context tokens, D text width, c raw
width of local features, d joint width, r prompts kept by dropout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmprompt.api import (
    Backbone,
    CapabilityError,
    ClassTokens,
    ForeignState,
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
    chosen_maps,
    cross_entropy,
    saved_tensors,
    topk_means,
    unit,
)
from vlmprompt_gallop.config import GalLoPConfig

Branch = Literal["both", "global", "local"]
SAVED = frozenset({"global_prompt", "local_prompts", "local_proj.linear.weight"})  # by the released code


class LocalProjection(nn.Module):
    """The linear map of local features, without bias; it starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.utils.skip_init(nn.Linear, width, width, bias=False)
        nn.init.eye_(self.linear.weight)


class GalLoP(PromptMethod):
    """Global-Local Prompts (Lafon et al., ECCV 2024).

    m global prompts are matched with the whole image, cosines G (B,K,m); n local prompts with its patches,
    mapped by a learned matrix, of which prompt j averages the k_j best of each class, L (B,K,n). Logits are
    s (mean_i G + mean_j L) / 2. Loss: cross-entropy of the global prompts under prompt dropout plus that of
    the local prompts. The text of a class is "[v_1] .. [v_V] {name}" without a full stop.

    Follows the released code; where the paper differs, an option says so, and the preset `paper` takes its
    side: scales, dropout (eq. 4), sums of losses (eqs. 4 and 5). The map stands before a ViT's last
    projection, behind a ResNet's (code; the paper writes of the joint space). Differs from the code: scales
    that a small tower makes equal are an error unless allowed, and the map and the projection behind it
    are multiplied before they meet the patches, which rounds differently; copies that nothing tells apart get the
    mean of their gradients, as rounding would part them.
    """

    capabilities = frozenset({"new_classes", "feature_cache", "local", "class_shard", "row_split"})
    config: GalLoPConfig

    def __init__(
        self,
        backbone: Backbone,
        class_names: Sequence[str],
        config: GalLoPConfig,
        *,
        descriptions: Sequence[Sequence[str]] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(backbone, class_names, config, descriptions=descriptions, generator=generator)
        config.warn_of_idle_options()
        self.n_global = config.n_global if config.use_global else 0
        self.scales = settled_scales(config, backbone) if config.use_local else ()
        self._add_prompts("global_prompt", self.n_global, learned=config.learn_global_prompts)
        self._add_prompts("local_prompts", len(self.scales), learned=config.learn_local_prompts)
        self.local_proj = None
        if config.use_local and config.learn_local_proj:
            self.local_proj = LocalProjection(backbone.vision.local_width)
        if not config.use_local:
            self.capabilities = self.capabilities - {"local"}
        if not list(self.parameters()):
            self.capabilities = self.capabilities | {"training_free"}

    def image_needs(self) -> ImageNeeds:
        """The pooled feature, and local ones from before the place of the learned map."""
        if not self.scales:
            return ImageNeeds()
        return ImageNeeds(local=self.config.local_features, space="pre_proj" if self.local_proj else "joint")

    def class_tokens(self, names: Sequence[str]) -> ClassTokens:
        """The bare name, no full stop."""
        return self.backbone.text.class_tokens(names, tail="", keep_underscores=self.config.keep_underscores)

    def text_prompts(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextPrompts:
        """The global prompts, then the local ones: (m + n, V, D)."""
        parts = [getattr(self, name) for name in ("global_prompt", "local_prompts") if hasattr(self, name)]
        prompts_PVD = torch.cat(parts)
        if prompts_PVD.requires_grad and self._alike():
            prompts_PVD.register_hook(partial(self._same_for_copies, prompts_PVD.detach()))
        return TextPrompts(prompts_PVD)

    def classify(
        self, features: ImageFeatures, text: TextFeatures, *, branch: Branch = "both", **method_options: Any
    ) -> MethodOutput:
        """Cosines of both branches, and the logits of both or of one.

        Args:
            branch: what the logits are made of.

        Returns:
            `aux` has `global_cosines_BKm` and `local_topk_BKn`, as far as the branches are used, and what local
            prompts choose patches by: `local_text_nKd`, `local_scales_n`; and `image_Bd`. The local view holds the mean
            of the local text features (of the global ones, without local prompts): what scores make of it is dense,
            not sparse.
        """
        aux: dict[str, Tensor] = {}
        choice: dict[str, Tensor] = {}
        local = None
        global_mKd, local_nKd = text.unit_PKd.split([self.n_global, len(self.scales)])
        with torch.autocast(features.global_Bd.device.type, enabled=False):
            if self.n_global:
                aux["global_cosines_BKm"] = torch.einsum("bd,mkd->bkm", features.unit_Bd, global_mKd)
            if features.local_BNc is not None:
                matched_pKd = local_nKd if self.scales else global_mKd
                local = LocalView(self.local_features(features), matched_pKd.mean(dim=0))
            if local is not None and self.scales:
                aux["local_topk_BKn"] = topk_means(local.features_BNd, local_nKd, self.scales)
                choice = {"local_text_nKd": local_nKd, "local_scales_n": torch.tensor(self.scales)}
        means = {name.partition("_")[0]: cosines.mean(dim=-1) for name, cosines in aux.items()}
        logits = self.scale * torch.stack(_chosen(means, branch)).mean(dim=0)
        own = {"image_Bd": features.unit_Bd}
        return MethodOutput(logits, self.scale, means.get("global"), local, aux | choice | own)

    def patch_maps(self, output: MethodOutput, labels_B: Tensor) -> Sequence[PatchMap]:
        """The patches that each local prompt averages (Figs. 9 and 10 of the paper), and its cosines with all."""
        return chosen_maps(output, labels_B) if self.scales else super().patch_maps(output, labels_B)

    def local_features(self, features: ImageFeatures) -> Tensor:
        """Patches in joint space behind the learned map, of unit length: (B,N,d)."""
        local_BNc = features.local_BNc
        assert local_BNc is not None
        if self.local_proj is not None:
            map_cd = self.local_proj.linear.weight.T
            projection_cd = self.backbone.vision.projection
            # One product with the patches in place of two: the maps are small, the patches are many.
            map_cd = map_cd if projection_cd is None else map_cd @ projection_cd.to(map_cd)
            local_BNc = local_BNc.to(map_cd) @ map_cd
        return unit(local_BNc)

    def loss(
        self,
        output: MethodOutput,
        labels: Tensor,
        *,
        draws: Mapping[str, Tensor] | None = None,
        weights: Tensor | None = None,
    ) -> Losses:
        """L_global + L_local (eq. 6), of weighted images.

        Args:
            draws: `dropout_idx` (B,r) int64, the prompts that each image keeps (dropout "official"), or
                `dropout_mask` (B,m) bool ("bernoulli"), in place of fresh ones.
        """
        parts: dict[str, Tensor] = {}
        if self.n_global:
            cosines_BKm = output.aux["global_cosines_BKm"]
            drawn = self.dropout_draws(len(labels)) if draws is None else draws
            parts["global"] = self._global_loss(self.scale * cosines_BKm, labels, drawn, weights)
        if self.scales:
            per_prompt_Bn = _losses(self.scale * output.aux["local_topk_BKn"], labels, weights)
            share = per_prompt_Bn.mean(dim=0)
            parts["local"] = share.mean() if self.config.local_loss == "mean" else share.sum()
        return Losses(torch.stack(list(parts.values())).sum(), {name: part.detach() for name, part in parts.items()})

    @classmethod
    def foreign_state(cls, content: Mapping[str, Any]) -> ForeignState:
        """What the released code saves: the three trained tensors, by the same names."""
        code = "GalLoP's code"
        state = saved_tensors(content, code)
        unknown = sorted(state.keys() - SAVED)
        if unknown:
            raise InputError(f"the checkpoint holds a tensor {unknown[0]!r}, which {code} does not save")
        return ForeignState(code, state)

    def loss_draws(self, n_images: int) -> Mapping[str, Tensor]:
        """Those of prompt dropout."""
        return self.dropout_draws(n_images) if self.n_global else {}

    def dropout_draws(self, n_images: int) -> Mapping[str, Tensor]:
        """What prompt dropout draws for a batch; nothing outside training."""
        if not self.training or self.config.prompt_dropout == "none":
            return {}
        m, rate = self.n_global, self.config.dropout_rate
        if self.config.prompt_dropout == "bernoulli":
            return {"dropout_mask": torch.rand(n_images, m, generator=self.generator) >= rate}
        kept = max(m - int(rate * m), 1)
        return {"dropout_idx": torch.randint(m, (n_images, kept), generator=self.generator)}

    def _global_loss(
        self, logits_BKm: Tensor, labels: Tensor, draws: Mapping[str, Tensor], weights: Tensor | None
    ) -> Tensor:
        if "dropout_idx" in draws:
            index_Br = draws["dropout_idx"].to(logits_BKm.device)
            index_BKr = index_Br[:, None, :].expand(-1, logits_BKm.shape[1], -1)
            return cross_entropy(logits_BKm.gather(2, index_BKr).mean(dim=-1), labels, weights)
        if "dropout_mask" in draws:
            return (_losses(logits_BKm, labels, weights) * draws["dropout_mask"].to(logits_BKm)).sum(dim=1).mean()
        if self.config.global_loss == "sum":
            return _losses(logits_BKm, labels, weights).sum(dim=1).mean()
        return cross_entropy(logits_BKm.mean(dim=-1), labels, weights)

    def _alike(self) -> list[list[int]]:
        """Rows of prompts that the loss does not tell apart: no dropout, or the same scale."""
        rows: dict[int, list[int]] = {}
        if self.config.prompt_dropout == "none":
            rows[0] = list(range(self.n_global))
        for j, k in enumerate(self.scales):
            rows.setdefault(k, []).append(self.n_global + j)
        return [group for group in rows.values() if len(group) > 1]

    def _same_for_copies(self, prompts_PVD: Tensor, grad_PVD: Tensor) -> Tensor:
        """Gradients of copies, which differ by the rounding of products alone, set equal: copies stay copies."""
        grad_PVD = grad_PVD.clone()
        for group in self._alike():
            if (prompts_PVD[group] == prompts_PVD[group[0]]).all():
                grad_PVD[group] = grad_PVD[group].mean(dim=0)
        return grad_PVD

    def _add_prompts(self, name: str, count: int, *, learned: bool) -> None:
        """`count` copies of the template's words, learned or fixed."""
        if not count:
            return
        words_VD = self.backbone.text.embed_words(self.config.words)
        initial = words_VD.expand(count, -1, -1).clone()
        if learned:
            self.register_parameter(name, nn.Parameter(initial))
        else:
            self.register_buffer(name, initial, persistent=False)


def settled_scales(config: GalLoPConfig, backbone: Backbone) -> tuple[int, ...]:
    """k_j of each local prompt, capped at the tower's patches.

    Raises:
        CapabilityError: the tower has no patches.
        InputError: scales that were to differ are equal under the cap.
    """
    n_patches = backbone.vision.n_local
    if n_patches < 1:
        raise CapabilityError(
            f"gallop needs local image features, backbone {backbone.spec!r} has none",
            hint="use a ViT or a ResNet of CLIP, or --set use_local=false",
        )
    asked = config.scales(n_patches, vit=backbone.is_vit)
    capped = tuple(min(k, n_patches) for k in asked)
    if len(set(capped)) < len(set(asked)) and not config.allow_equal_scales:
        raise InputError(
            f"the scales {list(asked)} of gallop become {list(capped)}: "
            f"backbone {backbone.spec!r} has {n_patches} patches",
            hint="give smaller ones (--set topk=[..], or k1 and dk), or --set allow_equal_scales=true",
        )
    return capped


def _losses(logits_BKp: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Cross-entropy of each image and prompt, times the image's weight: (B,p)."""
    losses_Bp = F.cross_entropy(logits_BKp, labels[:, None].expand(-1, logits_BKp.shape[-1]), reduction="none")
    return losses_Bp if weights is None else weights[:, None] * losses_Bp


def _chosen(means: Mapping[str, Tensor], branch: Branch) -> list[Tensor]:
    """The mean cosines that the logits are made of."""
    if branch == "both":
        return list(means.values())
    if branch not in means:
        raise CapabilityError(f"this gallop has no {branch} branch")
    return [means[branch]]

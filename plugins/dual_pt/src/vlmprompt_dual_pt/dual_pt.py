"""DUAL-PT: prompts aligned with local image features and with descriptions of the classes.

Shapes: B images, K classes, N local positions, n those that are kept, M prompts, V context tokens, D text width,
d joint width.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vlmprompt.api import (
    ImageFeatures,
    ImageNeeds,
    InputError,
    LocalView,
    Losses,
    MethodConfig,
    MethodOutput,
    PatchMap,
    PromptMethod,
    TextFeatures,
    TextPrompts,
    TransportCaps,
    cross_entropy,
    gaussian,
    meta_net,
    plan_maps,
    transport_plan,
    unit,
)
from vlmprompt_dual_pt.config import CLASS, PHRASE, DualPTConfig
from vlmprompt_dual_pt.distill import Targets, distance, instance_wise, match

TEMPLATE = "a photo of a {}."
CAM_FLOOR = 1e-3
MARGINAL = "marginal_BN"


class DualPT(PromptMethod):
    """Context-Aware Prompt Tuning for Vision-Language Model with Dual-Alignment (Hu et al., AAAI 2024).

    M prompts of V tokens, shared by all classes, make M text features w_km of class k: "[v_m1] .. [v_mV] {name}."
    With local image features z_n, T is the plan of Algorithm 1 (`transport_plan`), a constant, and logits
    = s * sum_nm T_nm cos(z_n, w_km); L = beta L_LLM + (1 - beta) CE, L_LLM = mean_k [1 - cos(w_k, h_k)] with h_k the
    encoded descriptions. Inference needs no descriptions. `conditional` (CoDUAL-PT) adds a token made from the
    global feature to all V tokens of all prompts (CoCoOp's net).

    No code is public; what the paper leaves open or contradicts is settled in the options' descriptions and the
    package's README. The cosine of M prompts and e phrases is the mean over all pairs by default: it gives all
    prompts the same gradient, so it draws them together (`diagnostics` logs the mean cosine between them).
    """

    capabilities = frozenset({"new_classes", "feature_cache", "local", "class_shard", "row_split"})
    requires = frozenset({"local_features"})
    config: DualPTConfig
    matches_KM: Tensor

    def create(self) -> None:
        """The prompts and, for CoDUAL-PT, the net; with "match" the assignment of descriptions to prompts."""
        c, text = self.config, self.backbone.text
        c.warn_of_idle_options()
        if c.distils and not any(self.descriptions or ()):
            raise InputError(
                f"dual_pt with beta = {c.beta:g} learns from descriptions of the classes, and there are none",
                hint="'vlmprompt describe-classes' makes them; --set context=none trains without",
            )
        self.prompts = nn.Parameter(gaussian(c.n_prompts, c.n_ctx, text.width, generator=self.generator))
        d, D = text.joint_dim, text.width
        self.meta_net = meta_net(d, D, generator=self.generator) if c.conditional else None
        if c.conditional:
            self.capabilities = self.capabilities | {"image_conditioned"}
        if c.align != "attn" and c.stop == "plot":  # which looks at the whole batch
            self.capabilities = self.capabilities - {"row_split"}
        if c.distils and c.distill == "match":  # trained state, so that training can go on in the middle of an epoch
            described = sum(map(bool, self.descriptions or ()))
            self.register_buffer("matches_KM", torch.zeros(described, c.n_prompts, dtype=torch.long))
        self._targets: Targets | None = None
        self._zero_shot_Kd: Tensor | None = None
        self._caps = TransportCaps()

    @classmethod
    def reads_descriptions(cls, config: MethodConfig) -> Literal["never", "training"]:
        """In the loss, unless beta is 0 or context comes from elsewhere."""
        assert isinstance(config, DualPTConfig)
        return "training" if config.distils else "never"

    # -- what it reads ------------------------------------------------------------------------------
    def image_needs(self) -> ImageNeeds:
        """Global and local features in joint space."""
        kind = self.config.local_features
        if kind == "auto":
            kind = "value_block" if self.backbone.is_vit else "tokens"
        return ImageNeeds(local=kind)

    def image_extra(self, images: Tensor, labels: Tensor | None) -> Mapping[str, Tensor]:
        """For context cam the weights of positions, `marginal_BN`: of the label in training, else of the class that
        zero-shot CLIP chooses."""
        if self.config.context != "cam":
            return {}
        text_Kd = self._zero_shot_text()
        own = labels if self.training else None
        if own is None:
            own = (self.backbone.encode_image(images).unit_Bd @ text_Kd.T).argmax(dim=-1)
        target_Bd = self.scale * text_Kd[own]
        map_BN = self.backbone.vision.grad_cam(images, lambda global_Bd: (unit(global_Bd) * target_Bd).sum(dim=-1))
        weights_BN = map_BN.float() + CAM_FLOOR
        return {MARGINAL: weights_BN / weights_BN.sum(dim=-1, keepdim=True)}

    def feature_key(self) -> str:
        """Activation maps depend on the classes, and on whether labels are used."""
        if self.config.context != "cam":
            return ""
        return f"cam {'labels' if self.training else 'zero-shot'} {self.class_names}"

    def text_prompts(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextPrompts:
        """M prompts (M,V,D), or (B,M,V,D) where they depend on the image."""
        if self.meta_net is None or global_Bd is None:
            return TextPrompts(self.prompts)
        token_BD = self.meta_net(unit(global_Bd))
        return TextPrompts(self.prompts + token_BD[:, None, None], scope="image")

    # -- forward ------------------------------------------------------------------------------------
    def forward(
        self,
        images: Tensor | ImageFeatures,
        *,
        text: TextFeatures | None = None,
        draws: Mapping[str, Tensor] | None = None,
        **method_options: Any,
    ) -> MethodOutput:
        """See `PromptMethod.forward`; `keep_plan=True` puts the plans (B,K,N,M) into `aux["plan"]`."""
        if isinstance(images, Tensor) and self.config.context == "cam":
            if self.training:
                raise InputError(
                    "context cam trains on activation maps of the labels, which are computed once for each image",
                    hint="use --views 1 (or more)",
                )
            features = self.encode_images(images)
            images = replace(features, extra=self.image_extra(images, None))
        return super().forward(images, text=text, draws=draws, **method_options)

    def classify(self, features: ImageFeatures, text: TextFeatures, **method_options: Any) -> MethodOutput:
        """Scaled sums of the matched cosines."""
        assert features.local_BNc is not None
        Z_BNd, W_KMd = unit(features.local_BNc), text.unit_PKd.transpose(-3, -2)
        with torch.autocast(Z_BNd.device.type, enabled=False):
            kept_Bn = self._kept(features.unit_Bd, Z_BNd)
            Z_Bnd = Z_BNd if kept_Bn is None else Z_BNd.take_along_dim(kept_Bn[..., None], dim=1)
            plan_BKnM = self._plan(Z_Bnd, W_KMd, features.extra.get(MARGINAL))
            rule = "bnd,kmd->bknm" if W_KMd.dim() == 3 else "bnd,bkmd->bknm"
            matched_BK = (plan_BKnM * torch.einsum(rule, Z_Bnd, W_KMd)).sum(dim=(-2, -1))
            if self.config.add_global:
                mean_Kd = unit(text.features_PKd.to(W_KMd.dtype).mean(dim=-3))
                matched_BK = matched_BK + (mean_Kd @ features.unit_Bd[..., None])[..., 0]
        aux = {"text_KMd": W_KMd, "image_Bd": features.unit_Bd}
        if method_options.get("keep_plan"):
            aux["plan"] = plan_BKnM if kept_Bn is None else _spread(plan_BKnM, kept_Bn, Z_BNd.shape[1])
        local = LocalView(Z_BNd, W_KMd.mean(dim=-2))
        return MethodOutput(self.scale * matched_BK, self.scale, None, local, aux)

    def patch_maps(self, output: MethodOutput, labels_B: Tensor) -> Sequence[PatchMap]:
        """Each prompt's share of the plan, and the local cosines with the mean of the prompts."""
        return [*plan_maps(output.aux["plan"], labels_B), *super().patch_maps(output, labels_B)]

    def _kept(self, global_Bd: Tensor, Z_BNd: Tensor) -> Tensor | None:
        """For context sim, the positions most similar to the global feature, in their order."""
        if self.config.context != "sim":
            return None
        n = max(1, round(self.config.sim_keep * Z_BNd.shape[1]))
        return (Z_BNd @ global_Bd[..., None])[..., 0].topk(n, dim=-1).indices.sort(dim=-1).values

    def _plan(self, Z_BNd: Tensor, W_KMd: Tensor, p_BN: Tensor | None) -> Tensor:
        c = self.config
        if c.align == "attn":
            with torch.set_grad_enabled(c.differentiable and torch.is_grad_enabled()):
                cosines_BKNM = (Z_BNd[:, None] @ W_KMd.mT) / c.attn_temperature
                if p_BN is not None:
                    cosines_BKNM = cosines_BKNM + p_BN.log()[:, None, :, None]
                return cosines_BKNM.softmax(dim=-2) / c.n_prompts
        return transport_plan(
            Z_BNd,
            W_KMd,
            alpha=c.edge_weight,
            lambda_=c.sinkhorn_lambda,
            stop=c.stop,
            max_outer=c.max_outer,
            max_inner=c.max_inner,
            tol_outer=c.tol_outer,
            tol_inner=c.tol_inner,
            p_BN=p_BN,
            differentiable=c.differentiable,
            caps=self._caps,
        )

    # -- loss ---------------------------------------------------------------------------------------
    def loss(
        self,
        output: MethodOutput,
        labels: Tensor,
        *,
        draws: Mapping[str, Tensor] | None = None,
        weights: Tensor | None = None,
    ) -> Losses:
        """beta L_LLM + (1 - beta) CE; CE alone where no descriptions are read. Weights of images act on CE.

        Compared are the gradients of beta L_LLM and of CE as it is.
        """
        ce = cross_entropy(output.logits, labels, weights)
        if not self.config.distils:
            return Losses(ce, {"ce": ce.detach()})
        targets, beta, kind = self.targets(), self.config.beta, self.config.distill
        if kind == "ce":
            llm = instance_wise(output.logits, output.aux["image_Bd"], self.scale, targets)
        else:
            W_KMd = output.aux["text_KMd"].index_select(-3, targets.labels_K)
            llm = distance(kind, W_KMd, targets, self.matches_KM if kind == "match" else None)
        parts = {"ce": ce.detach(), "llm": llm.detach()}
        return Losses(beta * llm + (1 - beta) * ce, parts, compared={"ce": ce, "llm": beta * llm})

    def encode_descriptions(self) -> None:
        """Those of `targets`, where the loss reads any."""
        if self.config.distils:
            self.targets()

    def targets(self) -> Targets:
        """The encoded descriptions, once.

        Raises:
            InputError: there are none for these classes.
        """
        if self._targets is None:
            if not any(self.descriptions or ()):
                raise InputError("dual_pt has no descriptions of these classes, so there is no loss on them")
            assert self.descriptions is not None
            with torch.inference_mode(False), torch.no_grad():
                self._targets = Targets.of(self._encoded(self.descriptions))
        return self._targets

    def _encoded(self, descriptions: Sequence[Sequence[str]]) -> list[Tensor]:
        """Unit features (e,d) of each class's descriptions."""
        template = self.config.description_template or PHRASE
        texts = [
            template.replace(CLASS, name.replace("_", " ")).replace(PHRASE, phrase)
            for name, phrases in zip(self.class_names, descriptions, strict=True)
            for phrase in phrases
        ]
        of = [name for name, phrases in zip(self.class_names, descriptions, strict=True) for _ in phrases]
        return list(unit(self.backbone.text.encode_sentences(texts, of=of)).split([len(own) for own in descriptions]))

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Match prompts and descriptions anew."""
        if self.config.distils and self.config.distill == "match":
            targets = self.targets()
            W_KMd = self._own_text().index_select(0, targets.labels_K)
            self.matches_KM.copy_(match(W_KMd, targets))

    def diagnostics(self) -> Mapping[str, float]:
        """The mean cosine between the text features of two prompts of a class; the share of plans cut short."""
        W_KMd = self._own_text()
        pairs = list(itertools.combinations(range(W_KMd.shape[1]), 2))
        cosines = [(W_KMd[:, i] * W_KMd[:, j]).sum(dim=-1).mean() for i, j in pairs]
        found = {"prompt_cosine": float(torch.stack(cosines).mean())} if cosines else {}
        caps = self._caps
        return found | ({"plans_cut_short": max(caps.inner, caps.outer) / caps.problems} if caps.problems else {})

    def renew(self, template: str | None) -> None:
        """What is encoded of the classes alone belongs to these; inference needs no descriptions."""
        self._targets = self._zero_shot_Kd = None

    def _zero_shot_text(self) -> Tensor:
        """Unit text features (K,d) of zero-shot CLIP, once."""
        if self._zero_shot_Kd is None:
            with torch.inference_mode(False):  # kept, so it must not be good for inference alone
                self._zero_shot_Kd = unit(self.backbone.text.encode_template(TEMPLATE, self.class_names))
        return self._zero_shot_Kd

    def _own_text(self) -> Tensor:
        """Unit text features (K,M,d) of the prompts as they are, without an image's token."""
        with torch.no_grad():
            return self.encode_text().unit_PKd.transpose(0, 1)


def _spread(plan_BKnM: Tensor, kept_Bn: Tensor, n_positions: int) -> Tensor:
    """Plans over all positions, zero where one was not kept."""
    B, K, n, M = plan_BKnM.shape
    whole_BKNM = plan_BKnM.new_zeros(B, K, n_positions, M)
    return whole_BKNM.scatter(2, kept_Bn[:, None, :, None].expand(B, K, n, M), plan_BKnM)

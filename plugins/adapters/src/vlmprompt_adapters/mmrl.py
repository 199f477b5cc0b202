"""MMRL: tokens of one learned space in the upper layers of both towers.

Shapes: B images, K classes, R representation tokens, D_r width of their space, D and d_v widths of the text and image
towers, C width of outputs before the image tower's projection, d joint width.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from vlmprompt.api import (
    ClassTokens,
    ForeignState,
    ImageFeatures,
    ImageNeeds,
    InputError,
    Losses,
    MethodOutput,
    PromptMethod,
    TextFeatures,
    TextPrompts,
    UsageError,
    VisualPrompts,
    class_text,
    cross_entropy,
    dassl_state,
    gaussian,
    saved_tensors,
    seeded_linear,
    unit,
)
from vlmprompt_adapters.config.mmrl import MMRLConfig
from vlmprompt_adapters.scale import SCALE
from vlmprompt_adapters.written import parts

USUAL_DEPTH = 12  # of the towers that the code was written for
CODE = "MMRL's code"
# What the code calls the tokens and their maps, here and there.
LEARNER = "representation_learner.compound_rep_tokens"
MAPS = {"_r2tproj": "to_text", "_r2vproj": "to_image"}
PROJECTION = "image_encoder.proj_rep"


class MMRL(PromptMethod):
    """MMRL: Multi-Modal Representation Learning for Vision-Language Models (Guo and Gu, CVPR 2025).

    Tokens R (R,D_r) of a space that both towers share become W_j R + b_j in each tower's j-th listed layer. At the
    first of these layers they are put behind the start token of the text and beside the patches of the image, at
    further ones in place of those that are there; they have no position. The text is the hand-written template. With
    w_k the text features, f the image feature, f' the mean of the tokens' last outputs times P (C,d),
    p = softmax(100 cos(f, w_k)), and p' the same of f', the loss is

        loss = alpha CE(p) + (1 - alpha) CE(p') + reg_weight (1 - mean cos(f, f_0)) + reg_weight (1 - mean cos(w, w_0)),

    with f_0 and w_0 CLIP's own features of the same crops and texts. Classes that it was trained on are predicted by
    100 (alpha cos(f, w_k) + (1 - alpha) cos(f', w_k)), others by 100 cos(f, w_k). Learned are `representation` (R,D_r),
    `to_text.<j>`, `to_image.<j>` and `proj_rep` (C,d), P.

    Same as the official code, but for this: text is encoded anew after an evaluation during training, which the code
    forgets; another data set whose classes are those of the training, in their order (ImageNet-V2, -Sketch), is
    predicted as these are, where the code takes f alone. On a ViT that is read by a pool, which the code does not know,
    a token's output goes through the pool's value path.
    """

    capabilities = frozenset({"new_classes", "class_shard", "row_split"})
    requires = frozenset({"visual_prompts", "deep_text_prompts"})
    config: MMRLConfig
    teacher_text_Kd: Tensor

    @property
    def scale(self) -> float:
        """The official code's number, whatever the towers' own scale is."""
        return SCALE

    def create(self) -> None:
        """The tokens, a map of each layer and tower, all alike at the start, and CLIP's own text features."""
        text, vision, c = self.backbone.text, self.backbone.vision, self.config
        self.layers = listed_layers(c.layers, text.layers, vision.layers)
        self.representation = nn.Parameter(gaussian(c.n_rep, c.rep_dim, generator=self.generator))
        self.to_text, self.to_image = (self._maps(width) for width in (text.width, vision.width))
        proj_Cd = torch.randn(vision.local_width, vision.joint_dim, generator=self.generator)
        self.proj_rep = nn.Parameter(vision.local_width**-0.5 * proj_Cd)
        self.trained_names = self.class_names
        teacher_Kd = class_text(text, self._text(), self.class_names, keep_underscores=c.keep_underscores)
        self.register_buffer("teacher_text_Kd", teacher_Kd, persistent=False)

    def image_needs(self) -> ImageNeeds:
        """Gradients reach the tokens through the image tower, and their outputs are read."""
        return ImageNeeds(grad=True, prompt_outputs=True)

    def class_tokens(self, names: Any) -> ClassTokens:
        """Names with what stands behind them in the template."""
        _, behind = parts(self._text())
        return self.backbone.text.class_tokens(names, tail=behind, keep_underscores=self.config.keep_underscores)

    def text_prompts(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextPrompts:
        """W_j R + b_j of each listed layer: (1,R,D)."""
        before, _ = parts(self._text())
        inserted = {layer: own_RD[None] for layer, own_RD in self._tokens(self.to_text).items()}
        return replace(self.backbone.text.no_context(), words=before, inserted=inserted)

    def visual_prompts(self, *, draws: Mapping[str, Tensor] | None = None) -> VisualPrompts:
        """W_j R + b_j of each listed layer: (R,d_v)."""
        return VisualPrompts(self._tokens(self.to_image), after_ln_pre=True)

    def encode_images(self, images: Tensor, *, draws: Mapping[str, Tensor] | None = None) -> ImageFeatures:
        """Features with tokens, and, where a loss may follow, CLIP's own beside them."""
        features = super().encode_images(images, draws=draws)
        if not (self.training or torch.is_grad_enabled()):
            return features
        return replace(features, extra={"frozen_Bd": self.backbone.encode_image(images).unit_Bd})

    def classify(self, features: ImageFeatures, text: TextFeatures, **method_options: object) -> MethodOutput:
        """Scaled cosines of f, mixed with those of f' for the classes of the training.

        `aux` also holds the logits of both, `class_BK` and `rep_BK`, and the frozen image features `frozen_Bd`.
        """
        output = super().classify(features, text, **method_options)
        (text_Kd,), cosines_BK = output.aux["text_PKd"], output.global_cosines
        assert features.prompts_BLC is not None and cosines_BK is not None
        with torch.autocast(text_Kd.device.type, enabled=False):
            mean_BC = features.prompts_BLC.to(self.proj_rep.dtype).mean(dim=1)
            rep_BK = unit(mean_BC @ self.proj_rep) @ text_Kd.T
        scale, aux = output.scale, {"class_BK": output.logits, "rep_BK": output.scale * rep_BK}
        if self.class_names == self.trained_names:
            cosines_BK = self.config.alpha * cosines_BK + (1 - self.config.alpha) * rep_BK
        aux = {**output.aux, **features.extra, **aux}
        return replace(output, logits=scale * cosines_BK, global_cosines=cosines_BK, aux=aux)

    def loss(
        self,
        output: MethodOutput,
        labels: Tensor,
        *,
        draws: Mapping[str, Tensor] | None = None,
        weights: Tensor | None = None,
    ) -> Losses:
        """The four terms, weighted; parts `class`, `rep`, `image`, `text`. Weights of images act on the first two.

        Raises:
            InputError: the output was made for evaluation, without the frozen image features.
        """
        if "frozen_Bd" not in output.aux:
            raise InputError(
                "MMRL's loss needs frozen image features, which it leaves out in evaluation without gradients",
                hint="call train() first, or leave gradients on",
            )
        c, (text_Kd,) = self.config, output.aux["text_PKd"]
        named = {
            "class": c.alpha * cross_entropy(output.aux["class_BK"], labels, weights),
            "rep": (1 - c.alpha) * cross_entropy(output.aux["rep_BK"], labels, weights),
            "image": c.reg_weight * distance(output.aux["image_Bd"], output.aux["frozen_Bd"]),
            "text": c.reg_weight * distance(text_Kd, self.teacher_text_Kd),
        }
        return Losses(torch.stack(list(named.values())).sum(), {name: part.detach() for name, part in named.items()})

    @classmethod
    def foreign_state(cls, content: Mapping[str, Any]) -> ForeignState:
        """The official code's tokens, maps and projection, out of the whole model that it saves.

        Which layers they are of is not in the file: 6 to 12 where there are seven maps, as by default.
        """
        table = {str(name).removeprefix("module."): t for name, t in saved_tensors(content, CODE).items()}
        own = {our_name(name): t for name, t in table.items() if name.startswith((LEARNER, PROJECTION))}
        written_KTD = table.get("prompt_embeddings")
        if isinstance(written_KTD, Tensor) and written_KTD.dim() == 3:
            own["token_prefix"] = written_KTD[:, :1]
        saved = dassl_state({"state_dict": own}, CODE)
        n_maps = sum(name.startswith("to_text.") and name.endswith(".weight") for name in saved.state)
        maps = [f"{kind}.{j}.{part}" for kind in MAPS.values() for j in range(n_maps) for part in ("weight", "bias")]
        saved.require(["representation", "proj_rep", *maps])
        n_rep, rep_dim = saved.tensor("representation", 2).shape
        return replace(saved, options={"n_rep": n_rep, "rep_dim": rep_dim})

    def _maps(self, width: int) -> nn.ModuleList:
        first = seeded_linear(self.config.rep_dim, width, generator=self.generator)
        return nn.ModuleList(copy.deepcopy(first) for _ in self.layers)

    def _tokens(self, maps: nn.ModuleList) -> dict[int, Tensor]:
        """Layer (from 0) -> (R,*)."""
        return {layer - 1: project(self.representation) for layer, project in zip(self.layers, maps, strict=True)}

    def _text(self) -> str:
        template = self.config.template
        assert not isinstance(template, tuple)
        return self.template if template is None else template


def listed_layers(asked: tuple[int, ...] | None, in_text: int, in_image: int) -> tuple[int, ...]:
    """The layers with tokens, from 1: those asked for, else 6 to 12, of shallower towers from the middle to the end.

    Raises:
        UsageError: there are not so many layers.
    """
    available = min(in_text, in_image)
    if asked is None:
        last = min(USUAL_DEPTH, available)
        return tuple(range(max(last // 2, 1), last + 1))
    if asked[-1] > available:
        raise UsageError(
            f"layers = {list(asked)}, but the towers have {in_text} (text) and {in_image} (image) layers",
            hint=f"set layers to some of 1 to {available}",
        )
    return asked


def distance(own_Nd: Tensor, frozen_Nd: Tensor) -> Tensor:
    """1 - mean cosine, of unit features."""
    return 1 - (own_Nd * frozen_Nd).sum(dim=-1).mean()


def our_name(name: str) -> str:
    """A tensor of the official code under the name that it has here."""
    if name == PROJECTION:
        return "proj_rep"
    rest = name.removeprefix(LEARNER)
    if not rest:
        return "representation"
    kind, _, where = rest.partition(".")
    return f"{MAPS.get(kind, kind)}.{where}"

"""PromptSRC: prompts in both towers that are held near CLIP and averaged over training.

Shapes: B images, K classes, E epochs, d joint width; others as in IVLP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmprompt.api import ImageFeatures, InputError, Losses, MethodOutput, TextFeatures, cross_entropy
from vlmprompt_baselines.config import PromptSRCConfig
from vlmprompt_baselines.ivlp import IVLP
from vlmprompt_baselines.templates import ensemble, teacher_features

AVERAGE = "average_"


class PromptSRC(IVLP):
    """Self-regulating Prompts (Khattak et al., ICCV 2023).

    Prompts as in IVLP. With z, w of the prompted and z', t of the frozen towers, all of unit length, and
    q' = softmax(s * cos(z', t_k)), the loss is CE + text_weight * mean|w - t| + image_weight * mean|z - z'| +
    KL(q' || q) / (B K), the means over all entries. t_k is the mean of the raw features of 60 hand-written texts (or of
    `teacher_templates`), normalised: the buffer `teacher_text_Kd`. At the end the prompts are the sum over epochs
    e = 1..E of those after epoch e, weighted by N(e; gpa_mean, gpa_std^2), the weights made to sum to 1.

    Same as the official code, but all stays in fp32, and where the mean is far from all epochs the weights are
    those of the nearest instead of undefined. Of its checkpoints, that of the last epoch holds the average.
    """

    capabilities = IVLP.capabilities  # its loss, too, is a mean over images and what does not depend on them
    usual_depth = 9
    saved_beside = ("ZS_image_encoder.",)  # the frozen image tower
    made_at_end = True
    passing: ClassVar[frozenset[str]] = frozenset({AVERAGE + "text_prompts", AVERAGE + "visual_prompts"})
    config: PromptSRCConfig
    teacher_text_Kd: Tensor

    def create(self) -> None:
        """IVLP's prompts, and CLIP's own text features."""
        super().create()
        templates = self.config.teacher_templates or ensemble()
        teacher_Kd = teacher_features(self.backbone.text, templates, self.class_names)
        self.register_buffer("teacher_text_Kd", teacher_Kd, persistent=False)

    def encode_images(self, images: Tensor, *, draws: Mapping[str, Tensor] | None = None) -> ImageFeatures:
        """Prompted features, and, where a loss may follow, frozen ones beside them."""
        features = super().encode_images(images, draws=draws)
        if not (self.training or torch.is_grad_enabled()):
            return features
        return replace(features, extra={"frozen_Bd": self.backbone.encode_image(images).unit_Bd})

    def classify(self, features: ImageFeatures, text: TextFeatures, **method_options: object) -> MethodOutput:
        """Scaled cosines; `aux` also holds the frozen image features `frozen_Bd`."""
        output = super().classify(features, text, **method_options)
        return replace(output, aux={**output.aux, **features.extra})

    def loss(
        self,
        output: MethodOutput,
        labels: Tensor,
        *,
        draws: Mapping[str, Tensor] | None = None,
        weights: Tensor | None = None,
    ) -> Losses:
        """The four terms, weighted; parts `ce`, `text`, `image`, `logits`. Weights of images act on the first.

        Raises:
            InputError: the output was made for evaluation, without the frozen image features.
        """
        if "frozen_Bd" not in output.aux:
            raise InputError(
                "PromptSRC's loss needs frozen image features, which it leaves out in evaluation without gradients",
                hint="call train() first, or leave gradients on",
            )
        (text_Kd,) = output.aux["text_PKd"]
        frozen_Bd = output.aux["frozen_Bd"]
        frozen_BK = output.scale * frozen_Bd @ self.teacher_text_Kd.T
        parts = {
            "ce": cross_entropy(output.logits, labels, weights),
            "text": self.config.text_weight * F.l1_loss(text_Kd, self.teacher_text_Kd),
            "image": self.config.image_weight * F.l1_loss(output.aux["image_Bd"], frozen_Bd),
            "logits": divergence(frozen_BK, output.logits),
        }
        return Losses(torch.stack(list(parts.values())).sum(), {name: part.detach() for name, part in parts.items()})

    def end_epoch(self, epoch: int, epochs: int) -> None:
        """Add this epoch's prompts to the average; after the last epoch, take it."""
        weight = float(epoch_weights(epochs, self.config.gpa_mean, self.config.gpa_std)[epoch])
        last = epoch == epochs - 1
        for name in ("text_prompts", "visual_prompts"):
            parameter, before = self.parameter(name), getattr(self, AVERAGE + name)
            share = weight * parameter.detach()
            average = share if before is None else before + share
            setattr(self, AVERAGE + name, None if last else average)
            if last:
                parameter.data.copy_(average)


def divergence(frozen_BK: Tensor, logits_BK: Tensor) -> Tensor:
    """KL(softmax of frozen || softmax of logits), over B K."""
    log_q_BK, log_p_BK = logits_BK.log_softmax(dim=-1), frozen_BK.log_softmax(dim=-1)
    return F.kl_div(log_q_BK, log_p_BK, reduction="sum", log_target=True) / logits_BK.numel()


def epoch_weights(epochs: int, mean: float, std: float) -> Tensor:
    """Gaussian weights of epochs 1..E that sum to 1 (float64)."""
    epoch_E = torch.arange(1, epochs + 1, dtype=torch.float64)
    return torch.softmax(-((epoch_E - mean) ** 2) / (2 * std**2), dim=0)

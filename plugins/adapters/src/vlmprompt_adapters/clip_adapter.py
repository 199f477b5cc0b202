"""CLIP-Adapter: a bottleneck on the image feature, mixed with it.

Shapes: B images, K classes, d joint width.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from vlmprompt.api import ImageFeatures, MethodOutput, TextFeatures, at_least_float, seeded_linear
from vlmprompt_adapters.config.clip_adapter import CLIPAdapterConfig
from vlmprompt_adapters.texts import FixedText


class CLIPAdapter(FixedText):
    """CLIP-Adapter: Better Vision-Language Models with Feature Adapters (Gao et al., arXiv 2110.04544).

    With z the image feature as the tower gives it, not normalised, a = relu(W2 relu(W1 z)) without biases, and
    z' = ratio * a + (1 - ratio) * z, logits = s * cos(z', t_k), cross-entropy, with t_k the class's frozen text.
    Learned are `fc.0.weight` W1 (d/4,d) and `fc.2.weight` W2 (d,d/4).

    Same as the official code, whose width is RN50's; here any. The code encodes the text anew at every step, which
    changes nothing; it states no schedule, and CoOp's is taken. The paper's adapter of the text is not in it, nor here.
    """

    capabilities = frozenset({"new_classes", "feature_cache", "several_names", "row_split"})
    config: CLIPAdapterConfig

    def create(self) -> None:
        """The text, and the bottleneck."""
        super().create()
        d = self.backbone.vision.joint_dim
        narrow = max(d // self.config.reduction, 1)
        self.fc = nn.Sequential(
            seeded_linear(d, narrow, generator=self.generator, bias=False),
            nn.ReLU(),
            seeded_linear(narrow, d, generator=self.generator, bias=False),
            nn.ReLU(),
        )

    def classify(self, features: ImageFeatures, text: TextFeatures, **method_options: Any) -> MethodOutput:
        """Scaled cosines of the mixed feature."""
        z_Bd = at_least_float(features.global_Bd)
        with torch.autocast(z_Bd.device.type, enabled=False):
            mixed_Bd = self.config.ratio * self.fc(z_Bd) + (1 - self.config.ratio) * z_Bd
        return super().classify(replace(features, global_Bd=mixed_Bd), text, **method_options)

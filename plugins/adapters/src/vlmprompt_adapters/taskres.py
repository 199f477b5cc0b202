"""TaskRes: a residual on each class's text feature.

Shapes: K classes, d joint width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vlmprompt.api import TextFeatures
from vlmprompt_adapters.config.taskres import TaskResConfig
from vlmprompt_adapters.texts import FixedText, raw_class_text


class TaskRes(FixedText):
    """Task Residual for Tuning Vision-Language Models (Yu et al., CVPR 2023).

    logits = s * cos(z, t_k + alpha * x_k), cross-entropy, with t_k the text feature of class k as the tower gives it,
    not normalised; of several templates the mean. Learned is `residual` x (K,d), which starts at zero.

    Same as the official code with its regular base, underscores of class names included. Its enhanced base, another
    text projection from a file, is not offered. The code takes images of ResNets to fp16 first; here all is fp32.
    """

    capabilities = frozenset({"feature_cache", "row_split"})
    config: TaskResConfig

    def create(self) -> None:
        """The text, and its residuals."""
        super().create()
        self.residual = nn.Parameter(torch.zeros_like(self.text_Kd))

    def class_features(self) -> Tensor:
        """(K,d), not normalised."""
        keep = self.config.keep_underscores
        return raw_class_text(self.backbone.text, self.templates, self.class_names, keep_underscores=keep)

    def encode_text(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextFeatures:
        """The text with its residuals (1,K,d)."""
        return TextFeatures((self.text_Kd + self.config.alpha * self.residual)[None])

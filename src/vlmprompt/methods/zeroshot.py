"""CLIP's zero-shot classifier.

Shapes: K classes, T templates, d joint width.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmprompt.backbones.types import TextFeatures
from vlmprompt.methods.config import DEFAULT_TEMPLATE, ZeroShotConfig
from vlmprompt.methods.contract import PromptMethod

# The seven templates that CLIP's authors selected for ImageNet.
CLIP7 = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


class ZeroShot(PromptMethod):
    """Cosine to the text of each class, nothing trained (Radford et al., ICML 2021).

    logits = s * cos(z, w_k), with w_k the text feature of class k in a template; with several templates the
    mean of the normalised features, normalised again. Same as the paper.
    """

    capabilities = frozenset({"new_classes", "feature_cache", "training_free"})
    config: ZeroShotConfig
    _data_template: str | None = None

    def templates(self) -> tuple[str, ...]:
        """The templates in use."""
        own = (self.config.template or self._data_template or DEFAULT_TEMPLATE,)
        return {"none": own, "clip7": CLIP7, "clip7+template": CLIP7 + own}[self.config.ensemble]

    def encode_text(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextFeatures:
        """(1,K,d): the mean over templates of unit features."""
        encode = partial(self.backbone.text.encode_template, keep_underscores=self.config.keep_underscores)
        raw_TKd = torch.stack([encode(template, self.class_names) for template in self.templates()])
        units_TKd = F.normalize(raw_TKd.float(), dim=-1)
        return TextFeatures(units_TKd.mean(dim=0, keepdim=True))

    def renew(self, template: str | None) -> None:
        """Other classes are written in their data set's template unless the option `template` is set."""
        self._data_template = template

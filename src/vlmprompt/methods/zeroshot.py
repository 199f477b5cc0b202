"""CLIP's zero-shot classifier.

Shapes: K classes, d joint width.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vlmprompt.backbones.types import TextFeatures
from vlmprompt.config.templates import CLIP7, as_tuple
from vlmprompt.methods.class_text import class_text
from vlmprompt.methods.config import DEFAULT_TEMPLATE, ZeroShotConfig
from vlmprompt.methods.contract import PromptMethod


class ZeroShot(PromptMethod):
    """Cosine to the text of each class, nothing trained (Radford et al., ICML 2021).

    logits = s * cos(z, w_k), with w_k the text feature of class k in a template; with several templates, or several
    names of a class ("car | automobile"), the mean of the normalised features, normalised again. Same as the paper,
    which has one name a class.
    """

    capabilities = frozenset({"new_classes", "feature_cache", "training_free", "several_names"})
    config: ZeroShotConfig
    _data_template: str | None = None

    def templates(self) -> tuple[str, ...]:
        """The templates in use."""
        own = as_tuple(self.config.template or self._data_template or DEFAULT_TEMPLATE)
        return {"none": own, "clip7": CLIP7, "clip7+template": CLIP7 + own}[self.config.ensemble]

    def encode_text(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextFeatures:
        """(1,K,d): see `class_text`."""
        keep = self.config.keep_underscores
        text_Kd = class_text(self.backbone.text, self.templates(), self.class_names, keep_underscores=keep)
        return TextFeatures(text_Kd[None])

    def renew(self, template: str | None) -> None:
        """Other classes are written in their data set's template unless the option `template` is set."""
        self._data_template = template

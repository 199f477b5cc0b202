"""CLIP's zero-shot classifier.

Shapes: K classes, d joint width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor

from vlmprompt.backbones.types import TextFeatures
from vlmprompt.config.templates import CLIP7, TextTemplate, as_tuple
from vlmprompt.methods.class_text import class_text
from vlmprompt.methods.contract import MethodConfig, PromptMethod

DEFAULT_TEMPLATE = "a photo of a {}."


class ZeroShotConfig(MethodConfig):
    """Options of the zero-shot classifier."""

    template_option: ClassVar[str | None] = "template"
    template: TextTemplate | None = Field(
        None,
        description="text with one {} for the class name, or a list of them, averaged as CLIP does; null: the data "
        f"set's own, else {DEFAULT_TEMPLATE!r}. Set by --templates FILE",
    )
    ensemble: Literal["none", "clip7", "clip7+template"] = Field(
        "none",
        description="mean over templates: none (the template alone), CLIP's seven, or both together "
        "(CoOp code: clip7 on ImageNet, clip7+template elsewhere)",
    )

    @model_validator(mode="after")
    def _template_is_used(self) -> ZeroShotConfig:
        if self.ensemble == "clip7" and self.template is not None:
            raise ValueError("ensemble clip7 leaves the template out; clip7+template takes both")
        return self


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

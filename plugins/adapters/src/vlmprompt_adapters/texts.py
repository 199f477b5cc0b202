"""Methods whose text is hand-written: the features of each class are encoded once and stay as they are.

Shapes: K classes, T templates, d joint width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vlmprompt.api import PromptMethod, TextEngine, TextFeatures, at_least_float, class_text
from vlmprompt_adapters.config.texts import TextsConfig


class FixedText(PromptMethod):
    """Base of methods on frozen text features `text_Kd` of the classes; here unit vectors, averaged as CLIP does."""

    config: TextsConfig
    text_Kd: Tensor

    def create(self) -> None:
        """The classes' text."""
        self.register_buffer("text_Kd", self.class_features(), persistent=False)

    @property
    def templates(self) -> str | Sequence[str]:
        """The texts in use: the option's, else the data set's own."""
        return self.config.templates or self.template

    def class_features(self) -> Tensor:
        """(K,d), without a graph."""
        keep = self.config.keep_underscores
        return class_text(self.backbone.text, self.templates, self.class_names, keep_underscores=keep)

    def encode_text(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextFeatures:
        """(1,K,d), encoded before."""
        return TextFeatures(self.text_Kd[None])

    def renew(self, template: str | None) -> None:
        """Other classes stand in their own data set's text."""
        self.text_Kd = self.class_features()


def raw_class_text(
    engine: TextEngine, templates: str | Sequence[str], names: Sequence[str], *, keep_underscores: bool
) -> Tensor:
    """The mean over templates of the text features as they are encoded, lengths and all: (K,d), without a graph.

    Raises:
        InputError: a text does not fit into the tower's context length.
    """
    templates = [templates] if isinstance(templates, str) else templates
    encoded = [engine.encode_template(text, names, keep_underscores=keep_underscores) for text in templates]
    return at_least_float(torch.stack(encoded)).mean(dim=0)

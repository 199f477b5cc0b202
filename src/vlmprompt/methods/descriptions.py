"""Zero-shot classification by descriptions of the classes.

Shapes: K classes, n descriptions of all classes together, d joint width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vlmprompt.backbones.types import ImageFeatures, TextFeatures, unit
from vlmprompt.data.names import spellings
from vlmprompt.describe.lines import Sentence
from vlmprompt.errors import InputError
from vlmprompt.methods.config import CLASS, PHRASE, DescribedConfig, MethodConfig
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.output import MethodOutput
from vlmprompt.methods.requirements import DescriptionUse


class Described(PromptMethod):
    """Cosine to the mean text feature of a class's descriptions, nothing trained (Menon & Vondrick, ICLR 2023).

    logits = s * cos(z, w_k), with w_k = norm(mean_j norm(g("{class}, which has {phrase j}"))). With `average`
    cosines, logits = s * mean_j cos(z, g(...)), the paper's. A class without descriptions is its name alone. A class of
    several names ("car | automobile") has each description with each name.
    Differs from the paper: "which has" before every phrase, where its code chooses between has, is and others.
    """

    capabilities = frozenset({"new_classes", "feature_cache", "training_free", "several_names"})
    config: DescribedConfig

    def create(self) -> None:
        """Nothing is learned, but every class is described."""
        self._require_descriptions()

    @classmethod
    def reads_descriptions(cls, config: MethodConfig) -> DescriptionUse:
        """Always: they are its classifier."""
        return "always"

    def sentences(self) -> list[list[str]]:
        """What is encoded for each class."""
        assert self.descriptions is not None
        several = [spellings(name.replace("_", " ")) for name in self.class_names]
        return [
            [self._written(name, text) for name in names for text in texts] or list(names)
            for names, texts in zip(several, self.descriptions, strict=True)
        ]

    def encode_text(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextFeatures:
        """(1,K,d): means of unit features, not normalised again (`classify` does where it is wanted)."""
        sentences = self.sentences()
        of = [name for name, texts in zip(self.class_names, sentences, strict=True) for _ in texts]
        units_nd = unit(self.backbone.text.encode_sentences([text for texts in sentences for text in texts], of=of))
        means = [part_nd.mean(dim=0) for part_nd in units_nd.split([len(texts) for texts in sentences])]
        return TextFeatures(torch.stack(means)[None])

    def classify(self, features: ImageFeatures, text: TextFeatures, **method_options: object) -> MethodOutput:
        """Scaled cosines to the means, or means of the cosines."""
        if self.config.average == "features":
            return super().classify(features, text, **method_options)
        with torch.autocast(features.global_Bd.device.type, enabled=False):
            cosines_BK = features.unit_Bd @ text.features_PKd[0].T
        return MethodOutput(self.scale * cosines_BK, self.scale, cosines_BK, aux={"image_Bd": features.unit_Bd})

    def renew(self, template: str | None) -> None:
        """Other classes need descriptions of their own."""
        self._require_descriptions()

    def _require_descriptions(self) -> None:
        if self.descriptions is None or len(self.descriptions) != len(self.class_names):
            raise InputError(
                "method descriptions needs descriptions of all its classes",
                hint="'vlmprompt describe-classes' makes them, --descriptions FILE names them",
            )

    def _written(self, name: str, text: str) -> str:
        if isinstance(text, Sentence):
            return text
        # One pass over the template, so that braces in a name or a phrase are left alone.
        before, after = (part.replace(CLASS, name) for part in self.config.template.split(PHRASE))
        return before + text + after

"""Methods that each break one rule, called after it: CoOp with a slip."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic import ConfigDict, Field, field_validator
from torch import Tensor, nn

from vlmprompt.backbones.types import ClassTokens, ImageFeatures, TextFeatures, TextPrompts
from vlmprompt.errors import CapabilityError
from vlmprompt.methods.config import CoOpConfig
from vlmprompt.methods.coop import CoOp
from vlmprompt.methods.output import Losses, MethodOutput
from vlmprompt.methods.weighted import cross_entropy


class Silent(CoOpConfig):
    """An option says nothing of itself."""

    colour: str = "red"


class Lenient(CoOpConfig):
    """Takes any option."""

    model_config = ConfigDict(extra="ignore")


class Growing(CoOpConfig):
    """A number is one more each time that it is read."""

    count: int = Field(1, description="a number")

    @field_validator("count")
    @classmethod
    def _one_more(cls, count: int) -> int:
        return count + 1


class Shifted(CoOp):
    """CoOp whose logits a subclass changes."""

    def _shift(self, logits: Tensor, features: ImageFeatures) -> Tensor:
        return logits

    def classify(self, features: ImageFeatures, text: TextFeatures, **method_options: Any) -> MethodOutput:
        output = super().classify(features, text, **method_options)
        return replace(output, logits=self._shift(output.logits, features))


class SaysWhatItIs(CoOp):
    pass


class DescribesItsOptions(CoOp):
    """See `Silent`."""


class RefusesUnknownOptions(CoOp):
    """See `Lenient`."""


class KeepsItsOptionsInJson(CoOp):
    """See `Growing`."""


class ShipsValidSettings(CoOp):
    """See `overrides.toml`."""


class SameSeedSameBytes(CoOp):
    """Initial values from torch's global generator."""

    def create(self) -> None:
        super().create()
        self.ctx.data += torch.randn(self.ctx.shape)


class LeavesGlobalRandomnessAlone(CoOp):
    """Draws one number for nothing."""

    def create(self) -> None:
        super().create()
        random.random()


class LossIsAFiniteScalar(CoOp):
    """One part of the loss is no number."""

    def loss(self, output: MethodOutput, labels: Tensor, **more: Any) -> Losses:
        losses = super().loss(output, labels)
        return Losses(losses.total, {"ratio": losses.total.detach() * 0 / 0})


class GradientsReachAllItLearns(CoOp):
    """A parameter that nothing uses."""

    def create(self) -> None:
        super().create()
        self.idle = nn.Parameter(torch.ones(3))


class TowersStayAsTheyAre(CoOp):
    """Moves a weight of the towers."""

    def end_epoch(self, epoch: int, epochs: int) -> None:
        next(iter(self.backbone.model.parameters())).data += 1e-3


class WeightsActOnTheLoss(CoOp):
    """Takes weights and leaves them."""

    def loss(self, output: MethodOutput, labels: Tensor, *, draws: Any = None, weights: Tensor | None = None) -> Losses:
        return Losses(cross_entropy(output.logits, labels, None))


class StateRoundTrip(Shifted):
    """What it counts in training is in no checkpoint."""

    def create(self) -> None:
        super().create()
        self.register_buffer("epochs", torch.zeros(()), persistent=False)

    def start_epoch(self, epoch: int, epochs: int) -> None:
        self.get_buffer("epochs").add_(1)

    def _shift(self, logits: Tensor, features: ImageFeatures) -> Tensor:
        return logits * (1 + self.get_buffer("epochs"))


class EvaluationChangesNothing(Shifted):
    """Counts batches, of evaluation too."""

    def create(self) -> None:
        super().create()
        self.register_buffer("seen", torch.zeros(()))

    def _shift(self, logits: Tensor, features: ImageFeatures) -> Tensor:
        self.get_buffer("seen").add_(1)
        return logits


class FrozenIsAsEvaluated(CoOp):
    """Text for evaluation that is another."""

    def frozen_text(self) -> TextFeatures | None:
        text = super().frozen_text()
        assert text is not None
        return TextFeatures(text.features_PKd.flip(0, 1))


class DeepCopiesAreIndependent(CoOp):
    """Holds its context a second time, where copies share it."""

    def create(self) -> None:
        super().create()
        self._held = [self.ctx.data]

    def text_prompts(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextPrompts:
        return TextPrompts((self.ctx + self._held[0])[None])


class LearnsAfterInferenceMode(CoOp):
    """Keeps a tensor of its first call."""

    _kept: Tensor | None = None

    def text_prompts(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextPrompts:
        if self._kept is None:
            self._kept = torch.ones(self.ctx.shape)
        return TextPrompts((self.ctx * self._kept)[None])


class LogitsAreFinite(Shifted):
    """Divides by nothing."""

    def _shift(self, logits: Tensor, features: ImageFeatures) -> Tensor:
        return logits / 0


class OneImage(Shifted):
    """Divides by the spread within the batch, which one image does not have."""

    def _shift(self, logits: Tensor, features: ImageFeatures) -> Tensor:
        return logits / logits.std(dim=0).mean()


class ImagesDoNotDependOnEachOther(Shifted):
    """Takes off the mean of the batch."""

    def _shift(self, logits: Tensor, features: ImageFeatures) -> Tensor:
        return logits - logits.mean(dim=0)


class OneClass(Shifted):
    """Divides by K - 1."""

    def _shift(self, logits: Tensor, features: ImageFeatures) -> Tensor:
        return logits / (logits.shape[1] - 1)


class TowersInBf16(Shifted):
    """Computes in the precision of the towers."""

    def _shift(self, logits: Tensor, features: ImageFeatures) -> Tensor:
        return logits.to(features.global_Bd.dtype)


class PermutedClassesPermuteLogits(Shifted):
    """Favours classes at the end of the list."""

    def _shift(self, logits: Tensor, features: ImageFeatures) -> Tensor:
        return logits + torch.arange(logits.shape[1])


class ServesNewClasses(Shifted):
    """Remembers how many classes it was made for."""

    def create(self) -> None:
        super().create()
        self._n_classes = len(self.class_names)

    def _shift(self, logits: Tensor, features: ImageFeatures) -> Tensor:
        return logits * self._n_classes


class ClassListsGoThereAndBack(Shifted):
    """Counts how often its classes have changed."""

    _changes = 0

    def renew(self, template: str | None) -> None:
        self._changes += 1

    def _shift(self, logits: Tensor, features: ImageFeatures) -> Tensor:
        return logits * (1 + self._changes)


class SeveralNamesOfAClass(CoOp):
    """Says that it takes several names, and does not."""

    capabilities = CoOp.capabilities | {"several_names"}

    def class_tokens(self, names: Sequence[str]) -> ClassTokens:
        if any("|" in name for name in names):
            raise CapabilityError("one name a class")
        return super().class_tokens(names)


class DescriptionsAreDeclared(CoOp):
    """Reads descriptions and does not say so."""

    def create(self) -> None:
        super().create()
        if self.descriptions is not None:
            self.ctx.data *= 2


class CachedFeaturesAreAsGood(Shifted):
    """Looks at the images themselves, beside the features that are stored."""

    _brightness: Tensor | float = 0.0

    def encode_images(self, images: Tensor, *, draws: Mapping[str, Tensor] | None = None) -> ImageFeatures:
        self._brightness = 1 + images.mean(dim=(1, 2, 3))[:, None].abs()
        return super().encode_images(images, draws=draws)

    def _shift(self, logits: Tensor, features: ImageFeatures) -> Tensor:
        factor, self._brightness = self._brightness, 0.0
        return logits * factor


class LocalFeaturesAreThere(CoOp):
    """Says that it has local features."""

    capabilities = CoOp.capabilities | {"local"}


class TextDependsOnTheImage(CoOp):
    """Says that its text depends on the image."""

    capabilities = CoOp.capabilities | {"image_conditioned"}


class HasSomethingToLearn(CoOp):
    """Says that there is nothing to train."""

    capabilities = CoOp.capabilities | {"training_free"}


class ClosedFormFits(CoOp):
    """A fit that does nothing."""

    capabilities = CoOp.capabilities | {"closed_form"}

    def fit(self, features: ImageFeatures, labels: Tensor, val: Any) -> Mapping[str, Any]:
        return {}


class SameRunSameCheckpoint(CoOp):
    """A fit that depends on how many there were before."""

    capabilities = CoOp.capabilities | {"closed_form"}
    _fits: ClassVar[int] = 0

    def fit(self, features: ImageFeatures, labels: Tensor, val: Any) -> Mapping[str, Any]:
        type(self)._fits += 1
        self.ctx.data += self._fits
        return {}


class ResumesBitForBit(CoOp):
    """Its loss depends on a count that is in no checkpoint."""

    _steps = 0

    def loss(self, output: MethodOutput, labels: Tensor, **more: Any) -> Losses:
        self._steps += 1
        losses = super().loss(output, labels)
        return Losses(losses.total / self._steps)


class ImagesOfABatchAreApart(CoOp):
    capabilities = CoOp.capabilities

    def loss(
        self,
        output: MethodOutput,
        labels: Tensor,
        *,
        draws: Mapping[str, Tensor] | None = None,
        weights: Tensor | None = None,
    ) -> Losses:
        return Losses(super().loss(output, labels, weights=weights).total + output.logits.mean(dim=0).square().sum())


class ClassesAreApart(CoOp):
    capabilities = CoOp.capabilities

    def encode_text(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextFeatures:
        text_PKd = super().encode_text(global_Bd, draws=draws).features_PKd
        return TextFeatures(text_PKd - text_PKd.mean(dim=1, keepdim=True))

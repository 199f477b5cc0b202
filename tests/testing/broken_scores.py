"""Scores that each break one rule; `NAMES` says how they are registered, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from vlmprompt.api import Field, MethodOutput, PromptMethod, Score, ScoreConfig


class SilentConfig(ScoreConfig):
    sharpness: float = 1.0


class LaxConfig(ScoreConfig, extra="allow"):
    sharpness: float = Field(1.0, description="of the softmax")


class Peak(Score):
    """The largest logit."""

    def score(self, output: MethodOutput, prepared: Any) -> Tensor:
        return output.logits.amax(dim=1)


class Mute(Peak):
    __doc__ = None


class Infinite(Peak):
    """The logarithm of nothing."""

    def score(self, output: MethodOutput, prepared: Any) -> Tensor:
        return (output.logits.amax(dim=1) * 0).log()


class Beside(Peak):
    """How far the largest logit is from the mean over images."""

    def score(self, output: MethodOutput, prepared: Any) -> Tensor:
        peak_B = output.logits.amax(dim=1)
        return peak_B - peak_B.mean()


class Drawn(Peak):
    """The largest logit with noise."""

    def score(self, output: MethodOutput, prepared: Any) -> Tensor:
        return output.logits.amax(dim=1) + 1e-7 * torch.rand(len(output.logits))


class Scribbling(Peak):
    """The largest logit, sorted in place."""

    def score(self, output: MethodOutput, prepared: Any) -> Tensor:
        return output.logits.sub_(output.logits.amax(dim=1, keepdim=True)).amin(dim=1).neg()


class Reticent(Peak):
    """The length of the image feature, which it does not say that it needs."""

    def score(self, output: MethodOutput, prepared: Any) -> Tensor:
        return output.aux["image_Bd"].norm(dim=1)


class Counted(Peak):
    """The largest logit, by a count."""

    calls: ClassVar[list[int]] = []

    def parts(self) -> Mapping[str, Any]:
        self.calls.append(1)
        return {"calls": len(self.calls)}


class Shared(Peak):
    """The largest logit, shifted by the number of classes that were prepared last."""

    classes: ClassVar[list[int]] = [0]

    def prepare(self, method: PromptMethod) -> None:
        self.classes[0] = len(method.class_names)

    def score(self, output: MethodOutput, prepared: Any) -> Tensor:
        return output.logits.amax(dim=1) + self.classes[0]


# rule -> name, class, options, and what is said.
BROKEN: dict[str, tuple[str, str, str | None, str]] = {
    "says_what_it_is": ("mute", "Mute", None, "it has no docstring"),
    "gives_a_finite_number_for_each_image": ("infinite", "Infinite", None, "NaN or infinite"),
    "images_do_not_depend_on_each_other": ("beside", "Beside", None, "depends on the images beside it"),
    "same_scores_twice": ("drawn", "Drawn", None, "global random state of torch"),
    "leaves_the_output_alone": ("scribbling", "Scribbling", None, "it changes logits"),
    "says_what_it_needs": ("reticent", "Reticent", None, "without image it fails"),
    "parts_are_json": ("counted", "Counted", None, "differs from call to call"),
    "options_are_strict": ("silent", "Peak", "SilentConfig", "option 'sharpness' says nothing"),
    "is_prepared_for_its_classes": ("shared", "Shared", None, "changes the first scores"),
}

"""A method as its checks see it: built on tiny towers, taken through a few steps, looked at.

Shapes: B images, K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.conformance import material
from vlmprompt.errors import CapabilityError
from vlmprompt.methods.build import build_method
from vlmprompt.methods.config import MethodConfig
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.declared import require_config
from vlmprompt.methods.given import require_losses
from vlmprompt.methods.output import Losses, MethodOutput
from vlmprompt.plugins import host
from vlmprompt.registry import Entry

STEPS = 2
LEARNING_RATE = 0.02
SAME = 1e-5  # of a cosine: what the order of additions in fp32 may change
_LOOPLESS = frozenset({"closed_form", "training_free"})
_FITTED = frozenset({"closed_form", "fit_first"})

Inputs = Tensor | ImageFeatures


@dataclass
class MethodCase:
    """A registered method with some options.

    Attributes:
        name: as it is registered.
        options: that differ from the defaults.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def entry(self) -> Entry:
        """How it is registered."""
        return host().methods.get(self.name)

    @cached_property
    def images(self) -> Tensor:
        """(B,3,H,W), one of each class."""
        return material.images(material.towers().preprocess.sides)

    def build(
        self,
        names: Sequence[str] = material.NAMES,
        *,
        seed: int = 1,
        backbone: Backbone | None = None,
        described: bool = True,
    ) -> PromptMethod:
        """The method with fresh initial values, over tiny towers.

        Args:
            described: give it descriptions of its classes.
        """
        texts = material.phrases(names) if described else None
        generator = torch.Generator().manual_seed(seed)
        towers = backbone or material.towers()
        return build_method(self.name, towers, names, dict(self.options), descriptions=texts, generator=generator)

    def learned(self) -> PromptMethod:
        """The method after a few steps, in eval mode; a copy that a check may do with as it likes."""
        return own_copy(self._learned)

    @cached_property
    def _learned(self) -> PromptMethod:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.learn(self.build())

    def learn(
        self, method: PromptMethod, *, steps: int = STEPS, seen: Callable[[], None] = lambda: None
    ) -> PromptMethod:
        """Take a method through what training is for it: a fit, steps, both or nothing; it is left in eval mode.

        Args:
            seen: called behind each backward pass.
        """
        with method.blamed():
            method.train()
            if method.capabilities & _FITTED:
                self.fit(method)
            if loops(method):
                self._take_steps(method, steps, seen)
            return method.eval()

    def fit(self, method: PromptMethod, labels_B: Tensor = material.LABELS_B) -> Mapping[str, Any]:
        """Fit it on the features of the images (of as many views as it asks for), without validation images."""
        views = int(getattr(method, "fit_views", 1))
        rows = [features_of(method, self.images + 0.01 * view, labels_B) for view in range(views)]
        return method.fit(ImageFeatures.cat(rows), labels_B.repeat(views), None)

    def _take_steps(self, method: PromptMethod, steps: int, seen: Callable[[], None]) -> None:
        optimizer = torch.optim.SGD(list(method.trainable_parameters()), lr=LEARNING_RATE, momentum=0.9)
        method.start_epoch(0, 1)
        for _ in range(steps):
            optimizer.zero_grad()
            self.losses(method).total.backward()
            seen()
            optimizer.step()
        method.end_epoch(0, 1)

    def losses(self, method: PromptMethod) -> Losses:
        """The loss of a step on all images, its shape looked at."""
        output = on_views(method, training_inputs(method, self.images))
        with method.blamed():
            return require_losses(method, method.loss(output, material.LABELS_B))

    def logits(self, method: PromptMethod, images: Inputs | None = None) -> Tensor:
        """(B,K) in eval mode, without a graph."""
        method.eval()
        with torch.no_grad():
            return method(self.images if images is None else images).logits.clone()


def own_copy(method: PromptMethod) -> PromptMethod:
    """A deep copy with a generator of its own."""
    other = method.copied(deep=True)
    other.generator = torch.Generator()
    other.generator.set_state(method.generator.get_state())
    return other


def loops(method: PromptMethod) -> bool:
    """Whether it is trained by steps."""
    return method.capabilities.isdisjoint(_LOOPLESS)


def features_of(method: PromptMethod, images: Tensor, labels_B: Tensor | None) -> ImageFeatures:
    """Features as the cache holds them: in fp32, with the method's own tensors beside them."""
    with torch.no_grad():
        found = method.backbone.encode_image(images, method.image_needs())
        extra = method.image_extra(images, labels_B)
        kept = ImageFeatures(found.global_Bd, found.local_BNc, extra).to("cpu", torch.float32)
    return ImageFeatures.from_tensors(kept.tensors())


def adapts(method: PromptMethod) -> bool:
    """Whether it adapts to test images, so that evaluation is no function of one image."""
    return "test_time" in method.capabilities


def on_views(method: PromptMethod, inputs: Inputs) -> MethodOutput:
    """What it says of a training step; of one that sees several views of each image, as many equal ones."""
    views = int(getattr(method, "training_views", 1))
    output: MethodOutput = method(inputs) if views == 1 else getattr(method, "on_views")((inputs,) * views)  # noqa: B009
    return output


def training_inputs(method: PromptMethod, images: Tensor) -> Inputs:
    """Images, or their features where the method keeps tensors of its own beside these."""
    if "feature_cache" not in method.capabilities:
        return images
    features = features_of(method, images, material.LABELS_B)
    return features if features.extra else images


def distance(a: Tensor, b: Tensor, method: PromptMethod) -> float:
    """How far logits are apart, in cosines (or as a share of the largest logit, where these are larger)."""
    largest = max(float(method.scale), a.abs().max().item())
    return (a - b).abs().max().item() / largest


def changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> str | None:
    """The first tensor by name that is not the same to the bit; None if all are."""
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after or not torch.equal(before[name], after[name]):
            return name
    return None


def state_of(method: PromptMethod) -> dict[str, Tensor]:
    """The trained state as it is now."""
    return {name: tensor.clone() for name, tensor in method.trainable_state().items()}


def without_text(method: PromptMethod) -> bool:
    """Whether it reads no text at all, such as a probe."""
    try:
        with torch.no_grad():
            return "image_conditioned" not in method.capabilities and method.frozen_text() is None
    except CapabilityError:
        return True


def options_model(case: MethodCase) -> type[MethodConfig]:
    """The class of its options."""
    return require_config(case.entry)

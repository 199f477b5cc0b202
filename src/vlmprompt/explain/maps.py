"""Maps of a batch of images: what a method says of its patches, what gradients say, and whether that is the object.

Shapes: B images, K classes, N local positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.data.records import Record
from vlmprompt.errors import CapabilityError
from vlmprompt.evaluation.pointing import masks
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.frozen import FrozenMethod
from vlmprompt.methods.output import MethodOutput
from vlmprompt.methods.patch_maps import PatchMap


@dataclass
class Looking:
    """A method whose maps are made: frozen, reading local features where its tower has some.

    Attributes:
        name: for people.
        frozen: a copy of the method, without gradients.
        without: why there are no maps by gradients; None as long as there are.
    """

    name: str
    frozen: FrozenMethod
    without: str | None = field(default=None, init=False)

    @classmethod
    def of(cls, name: str, method: PromptMethod) -> Self:
        """The method as it is now; what it learned is copied, and left alone."""
        frozen = method.with_local().frozen()
        frozen.method.requires_grad_(False)
        return cls(name, frozen)

    def output(self, images: Tensor) -> MethodOutput:
        """What the method says of images, with its plans."""
        return self.frozen(images, keep_plan=True)

    def maps(self, images: Tensor, output: MethodOutput, labels_B: Tensor) -> list[PatchMap]:
        """All maps of a class of each image: what the method says of patches itself, then what the gradient says."""
        with self.frozen.method.blamed():
            found = list(self.frozen.method.patch_maps(output, labels_B))
        if self.without is None:
            try:
                found.append(PatchMap("attention", "", class_attention(self.frozen, images, labels_B)))
            except CapabilityError as error:
                self.without = error.told
        return found


def class_attention(frozen: FrozenMethod, images: Tensor, labels_B: Tensor) -> Tensor:
    """Which patches of images speak for the logit of a class of each, by its gradient: (B,N), not negative.

    Gradient class attention, as in Fig. 1 of Bloom; its paper gives no formula, `VisionEngine.class_map` has one.
    The logit is the method's own, with its prompts in the image tower and its text, which may depend on the image.

    Args:
        labels_B: indices into the method's classes.

    Raises:
        CapabilityError: the tower shows no places, or no gradient leads to them.
    """
    method, at = frozen.method, labels_B.to(images.device)[:, None]
    with torch.inference_mode(False), torch.no_grad():
        extra: Mapping[str, Tensor] = method.image_extra(images, None)
        prompts = method.visual_prompts()

        def logits(features: ImageFeatures) -> Tensor:
            output = method(replace(features, extra=extra), text=frozen.text)
            return output.logits.gather(1, at.to(output.logits.device))[:, 0]

        return method.backbone.vision.class_map(images, method.image_needs(), prompts, logits).float().cpu()


def on_object(record: Record, grid: tuple[int, int]) -> Tensor | None:
    """Whether each patch lies on the object: (N,); None where nobody knows, or patches are in no square."""
    rows, columns = grid
    if rows != columns or not hasattr(record.image, "mask"):
        return None
    return masks([record], rows * columns)[0]


def share(weights_N: Tensor, mask_N: Tensor) -> float | None:
    """How much of the looking falls on the object, 0 to 1; None of an empty map.

    Args:
        weights_N: of `PatchMap.weights_BN`.
        mask_N: see `on_object`.
    """
    return float((weights_N * mask_N).sum()) if weights_N.any() else None


def mean_share(weights: Iterable[Tensor], mask_N: Tensor) -> float | None:
    """The mean of several maps (N,), the empty ones left out; None where all are empty."""
    shares = [own for weights_N in weights if (own := share(weights_N, mask_N)) is not None]
    return sum(shares) / len(shares) if shares else None

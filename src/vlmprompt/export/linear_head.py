"""A method as a matrix over the plain image feature, where it is one.

Nothing is asked of the method's name. Its classifier is called with chosen features, the matrix is read off its
answers, and what was read must give the method's own logits of real images and of random features.

Shapes: B images, K classes, d joint width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vlmprompt.backbones.types import ImageFeatures, ImageNeeds, unit
from vlmprompt.errors import CapabilityError
from vlmprompt.export.agreement import Difference, difference
from vlmprompt.export.trial import noise
from vlmprompt.methods.frozen import FrozenMethod

TOLERANCE = 1e-5  # of logits, or of the largest of them where that is above 1
_PART = 256  # features a call
_PROBES = 32
_ROUNDING = 1e-6  # of the largest answer: what a bias is when there is none
TO_ONNX = "export it with its image tower: --to onnx"


@dataclass(frozen=True)
class LinearHead:
    """logits = scale * (z classes^T) + bias.

    Attributes:
        classes_Kd: an embedding of each class; of unit length where a class has one prompt.
        scale: of the cosines; 1 where `normalized` is off.
        bias_K: zero for all methods that compare with texts.
        normalized: z is the image feature of unit length; else it is as the tower gives it.
    """

    classes_Kd: Tensor
    scale: float
    bias_K: Tensor
    normalized: bool

    def logits(self, features_Bd: Tensor) -> Tensor:
        """(B,K) of raw image features."""
        z_Bd = unit(features_Bd) if self.normalized else features_Bd.float()
        return self.scale * (z_Bd @ self.classes_Kd.T) + self.bias_K

    def tensors(self) -> Mapping[str, Tensor]:
        """As they are written."""
        return {
            "classes": self.classes_Kd.contiguous(),
            "scale": torch.tensor(self.scale, dtype=torch.float32),
            "bias": self.bias_K.contiguous(),
        }


def read_head(
    frozen: FrozenMethod, name: str, pixels_B3HW: Tensor, *, changed: bool = False
) -> tuple[LinearHead, Difference]:
    """The matrix that a method is.

    Args:
        name: of the method, for errors.
        pixels_B3HW: images, which may be alike: what an image's local features do is also tried on random pixels.
        changed: the towers are those that the method changes (`TowerDeltas`), not the plain ones.

    Returns:
        The head, and how far its logits are from the method's own on those images.

    Raises:
        CapabilityError: the method is none; says why.
    """
    method = frozen.method
    if "image_conditioned" in method.capabilities:
        raise _refused(name, "the text of its classes depends on the image")
    prompts = method.visual_prompts()
    if len(prompts):
        raise _refused(name, "its image tower reads learned prompt tokens, which the plain tower lacks")
    if prompts.deltas and not changed:
        hint = f"{TO_ONNX}; or with the changed towers: --to open_clip"
        raise _refused(name, "it changes weights of the image tower, which --to open_clip merges", hint)
    with torch.inference_mode(False), torch.no_grad():
        features = method.encode_images(pixels_B3HW)
        if _reads_more(frozen, features) or _reads_more(frozen, method.encode_images(noise(method.backbone, 3))):
            raise _refused(name, "its logits depend on more of an image than its global feature (on local features)")
        head = _read(frozen, features[:1])
        plain_Bd = method.backbone.encode_image(pixels_B3HW, ImageNeeds(), prompts=prompts).global_Bd
        seen = difference(head.logits(plain_Bd), frozen(pixels_B3HW).logits)
        random_Bd = _random(_PROBES, plain_Bd.shape[1])
        others = difference(head.logits(random_Bd), _answers(frozen, features[:1], random_Bd))
    if not max(seen.relative, others.relative) <= TOLERANCE:
        raise _refused(name, "its logits are no linear function of the image feature")
    return head, seen


def _read(frozen: FrozenMethod, one: ImageFeatures) -> LinearHead:
    """By the answers to unit vectors and their opposites."""
    width = one.global_Bd.shape[1]
    axes_dd, random_1d = torch.eye(width), _random(1, width)
    there_dK, back_dK = _answers(frozen, one, axes_dd), _answers(frozen, one, -axes_dd)
    longer = difference(_answers(frozen, one, 2 * random_1d), _answers(frozen, one, random_1d))
    normalized = longer.relative <= TOLERANCE
    scale = frozen.method.scale if normalized else 1.0
    classes_Kd, bias_K = (there_dK - back_dK).T / (2 * scale), ((there_dK + back_dK) / 2).mean(dim=0)
    if bias_K.abs().max() <= _ROUNDING * there_dK.abs().max():
        bias_K = torch.zeros_like(bias_K)
    return LinearHead(classes_Kd, scale, bias_K, normalized)


def _answers(frozen: FrozenMethod, one: ImageFeatures, global_Bd: Tensor) -> Tensor:
    """Logits (B,K) of features that have the local ones of one image, whatever their global one is."""
    parts = [
        frozen(replace(one[torch.zeros(len(part), dtype=torch.long)], global_Bd=part)).logits.float()
        for part in global_Bd.split(_PART if one.local_BNc is None else 8)
    ]
    return torch.cat(parts)


def _random(count: int, width: int) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(0))


def _reads_more(frozen: FrozenMethod, features: ImageFeatures) -> bool:
    """Whether images with the same global feature get different logits."""
    same_Bd = features.global_Bd[:1].expand_as(features.global_Bd).contiguous()
    logits_BK = frozen(replace(features, global_Bd=same_Bd)).logits
    return difference(logits_BK, logits_BK[:1].expand_as(logits_BK)).relative > TOLERANCE


def _refused(name: str, reason: str, hint: str = TO_ONNX) -> CapabilityError:
    return CapabilityError(f"method {name} is no matrix of class embeddings: {reason}", hint=hint)

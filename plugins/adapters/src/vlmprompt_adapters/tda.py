"""TDA: two caches that the test stream itself fills.

Shapes: A views of an image, K classes, C images of a class in a cache, d joint width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vlmprompt.api import ImageFeatures, MethodOutput, PromptMethod, TextFeatures, class_text
from vlmprompt_adapters.config.tda import TDAConfig
from vlmprompt_adapters.scale import SCALE
from vlmprompt_adapters.sure import entropy, entropy_of_mean, surest
from vlmprompt_adapters.views import RandomView

if TYPE_CHECKING:
    from PIL.Image import Image


class TDA(PromptMethod):
    """Efficient Test-Time Adaptation of Vision-Language Models (Karmanov et al., CVPR 2024).

    logits = 100 cos(z, w_k) + P_k - N_k for an image z of unit length, with w_k zero-shot CLIP's text of class k and

        P_k = alpha_p * sum of exp(-beta_p (1 - z.f)) over images f kept for class k,
        N_k = alpha_n * sum of exp(-beta_n (1 - z.f)) over images f kept as not of class k.

    The positive cache holds for each class the 3 images of lowest entropy that zero-shot CLIP takes for it. The
    negative one holds, also by the class that CLIP takes them for, the 2 images of lowest entropy among those of which
    it is neither sure nor unsure: their entropy divided by log2 K is between 0.2 and 0.5. Such an image counts against
    all classes to which CLIP gives a probability between 0.03 and 1. Each image enters before it is classified. Of
    several views of an image the surest tenth is averaged, features, logits and probabilities.

    Read beside the official code, whose numbers were not reproduced: caches, formulas and constants are its, and so are
    entropies in nats divided by log2 K. Its values for single data sets are shipped; others have those of ImageNet.
    Differs from it in fp32 in place of fp16. OOD scores are computed on the adapted logits.
    """

    capabilities = frozenset({"new_classes", "feature_cache", "training_free", "several_names", "test_time"})
    config: TDAConfig
    text_Kd: Tensor | None
    pos_KCd: Tensor
    pos_entropy_KC: Tensor
    neg_KCd: Tensor
    neg_entropy_KC: Tensor
    neg_mask_KCK: Tensor

    @property
    def scale(self) -> float:
        """The official code's number, whatever the towers' own scale is."""
        return SCALE

    def create(self) -> None:
        """Places for the text and the caches, which are no trained state."""
        self.test_views = self.config.views
        for name in ("text_Kd", "pos_KCd", "pos_entropy_KC", "neg_KCd", "neg_entropy_KC", "neg_mask_KCK"):
            self.register_buffer(name, None, persistent=False)

    def encode_text(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextFeatures:
        """(1,K,d): see `class_text`."""
        templates, keep = self.config.template or self.template, self.config.keep_underscores
        return TextFeatures(class_text(self.backbone.text, templates, self.class_names, keep_underscores=keep)[None])

    def renew(self, template: str | None) -> None:
        """Other classes have another text."""
        self.text_Kd = None

    def view_transform(self) -> Callable[[Image], Tensor]:
        """Crops and flips, with AugMix by the option."""
        preprocess = self.backbone.preprocess
        return RandomView(preprocess.sides, preprocess.mean, preprocess.std, self.config.augmix)

    def start_stream(self) -> None:
        """Empty caches."""
        if self.text_Kd is None:
            (self.text_Kd,) = self.encode_text().features_PKd
        n_classes, width = self.text_Kd.shape
        device, pos, neg = self.text_Kd.device, self.config.pos_capacity, self.config.neg_capacity
        self.pos_KCd = torch.zeros(n_classes, pos, width, device=device)
        self.neg_KCd = torch.zeros(n_classes, neg, width, device=device)
        self.pos_entropy_KC = torch.full((n_classes, pos), torch.inf, device=device)  # infinite: the place is empty
        self.neg_entropy_KC = torch.full((n_classes, neg), torch.inf, device=device)
        self.neg_mask_KCK = torch.zeros(n_classes, neg, n_classes, dtype=torch.bool, device=device)

    def observe(self, views: Tensor | ImageFeatures) -> MethodOutput:
        """Let an image enter the caches, and classify it."""
        assert isinstance(views, ImageFeatures) and self.text_Kd is not None
        config = self.config
        plain = self.classify(views[:1], TextFeatures(self.text_Kd[None]))
        image_d, logits_K, p_K, uncertainty = self._seen(views.unit_Bd, self.text_Kd)
        label = int(logits_K.argmax())
        if (order := _let_in(self.pos_entropy_KC[label], uncertainty)) is not None:
            self.pos_KCd[label] = _with(self.pos_KCd[label], image_d, order)
        relative = float(uncertainty) / math.log2(max(2, len(logits_K)))
        unsure = config.entropy_low < relative < config.entropy_high
        if unsure and (order := _let_in(self.neg_entropy_KC[label], uncertainty)) is not None:
            self.neg_KCd[label] = _with(self.neg_KCd[label], image_d, order)
            mask_K = (p_K > config.mask_low) & (p_K < config.mask_high)
            self.neg_mask_KCK[label] = _with(self.neg_mask_KCK[label], mask_K, order)
        adapted_K = logits_K + self._for(image_d) - self._against(image_d)
        return replace(plain, logits=adapted_K[None], global_cosines=None)

    def _seen(self, unit_Ad: Tensor, text_Kd: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """An image's feature, logits, probabilities and entropy by zero-shot CLIP, by the surest of its views."""
        logits_AK = self.scale * unit_Ad @ text_Kd.T
        if len(unit_Ad) == 1:
            return unit_Ad[0], logits_AK[0], logits_AK[0].softmax(dim=-1), entropy(logits_AK[0])
        kept = surest(logits_AK, self.config.selected)
        p_K = logits_AK[kept].softmax(dim=-1).mean(dim=0)
        # The mean of unit features is not normalised again, as in the code.
        return unit_Ad[kept].mean(dim=0), logits_AK[kept].mean(dim=0), p_K, entropy_of_mean(logits_AK[kept])

    def _for(self, image_d: Tensor) -> Tensor:
        near_KC = _near(self.pos_KCd, self.pos_entropy_KC, image_d, self.config.pos_beta)
        return self.config.pos_alpha * near_KC.sum(dim=1)

    def _against(self, image_d: Tensor) -> Tensor:
        near_KC = _near(self.neg_KCd, self.neg_entropy_KC, image_d, self.config.neg_beta)
        return self.config.neg_alpha * near_KC.flatten() @ self.neg_mask_KCK.flatten(0, 1).to(near_KC.dtype)


def _near(kept_KCd: Tensor, entropy_KC: Tensor, image_d: Tensor, beta: float) -> Tensor:
    """How near an image is to those of a cache: (K,C); 0 at empty places."""
    return (beta * (kept_KCd @ image_d - 1)).exp() * entropy_KC.isfinite()


def _let_in(entropy_C: Tensor, own: Tensor) -> Tensor | None:
    """Let an image into its class's places, sorted by entropy, in the last one's stead; in place.

    Returns:
        The order of all places with the image in the last one, by which they are sorted again; None where it is less
        sure than all that are there.
    """
    if not own < entropy_C[-1]:
        return None
    entropy_C[-1] = own
    sorted_C, order_C = entropy_C.sort(stable=True)
    entropy_C.copy_(sorted_C)
    return order_C


def _with(kept_C: Tensor, own: Tensor, order_C: Tensor) -> Tensor:
    """The places with an image in the last one, sorted."""
    return torch.cat([kept_C[:-1], own[None]])[order_C]

"""TPT: context words tuned on each test image.

Shapes: A views of an image, K classes, V context tokens, D text width, d joint width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vlmprompt.api import ImageFeatures, MethodOutput, PromptMethod, TextFeatures, TextPrompts, embedded_words, unit
from vlmprompt_adapters.config.tpt import TPTConfig
from vlmprompt_adapters.sure import entropy_of_mean, surest
from vlmprompt_adapters.views import RandomView

if TYPE_CHECKING:
    from PIL.Image import Image


class TPT(PromptMethod):
    """Test-Time Prompt Tuning for Zero-Shot Generalization in Vision-Language Models (Shu et al., NeurIPS 2022).

    Text and logits are CoOp's, "[v_1] .. [v_V] {name k}." and s * cos(z, w_k), with v that begin as "a photo of a" for
    each image anew. Of its 64 views (the plain one, and 63 random ones) the tenth with the lowest entropy is kept, and
    one step of AdamW on v minimises the entropy of their mean prediction; the plain view is classified with the result.
    Nothing is kept from image to image. The step goes through the text tower alone: features of views are computed
    once, without a graph.

    Read beside the official code: start, selection, loss, optimiser (AdamW with PyTorch's weight decay of 0.01), number
    of steps, and the views, see `RandomView`. Its numbers were not reproduced. Differs from it in that all is computed
    in fp32, where it has half precision and a scaled loss; at least one view is kept where a tenth is none; and its
    start from contexts of CoOp or CoCoOp is not there.
    """

    capabilities = frozenset({"new_classes", "feature_cache", "training_free", "test_time"})
    config: TPTConfig
    ctx_VD: Tensor

    def create(self) -> None:
        """What the context of every image starts with."""
        self.test_views = self.config.views
        words_VD = embedded_words(self.backbone.text, self.config.ctx_init)
        self.register_buffer("ctx_VD", words_VD, persistent=False)

    def text_prompts(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextPrompts:
        """One prompt, before any image has changed it."""
        return TextPrompts(self.ctx_VD[None])

    def view_transform(self) -> Callable[[Image], Tensor]:
        """Crops and flips, with AugMix by the option."""
        preprocess = self.backbone.preprocess
        return RandomView(preprocess.sides, preprocess.mean, preprocess.std, self.config.augmix)

    def observe(self, views: Tensor | ImageFeatures) -> MethodOutput:
        """Tune the context on the views of an image, and classify the plain one."""
        assert isinstance(views, ImageFeatures)
        tuned_VD = self.tuned(views.unit_Bd)
        return self.classify(views[:1], TextFeatures(self._text(tuned_VD)))

    def tuned(self, unit_Ad: Tensor) -> Tensor:
        """The context after its steps on the views of one image: (V,D).

        Args:
            unit_Ad: their features, L2-normalised.
        """
        with torch.enable_grad():
            ctx_VD = self.ctx_VD.clone().requires_grad_()
            optimizer = torch.optim.AdamW([ctx_VD], lr=self.config.lr)
            kept: Tensor | None = None
            for _ in range(self.config.steps):
                (text_Kd,) = unit(self._text(ctx_VD))
                logits_AK = self.scale * unit_Ad @ text_Kd.T
                if kept is None:
                    kept = surest(logits_AK.detach(), self.config.selected)
                (ctx_VD.grad,) = torch.autograd.grad(entropy_of_mean(logits_AK[kept]), ctx_VD)
                optimizer.step()
        return ctx_VD.detach()

    def _text(self, ctx_VD: Tensor) -> Tensor:
        return self.backbone.text.encode(TextPrompts(ctx_VD[None]), self.classes)

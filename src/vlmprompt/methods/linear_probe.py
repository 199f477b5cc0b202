"""Logistic regression on frozen image features.

Shapes: B images, K classes, d joint width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmprompt.backbones.types import ImageFeatures, TextFeatures, at_least_float
from vlmprompt.errors import InputError
from vlmprompt.methods.config import LinearProbeConfig
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.logistic import Regression, double
from vlmprompt.methods.output import MethodOutput

if TYPE_CHECKING:
    from vlmprompt.backbones.backbone import Backbone

GRID = (1e6, 1e4, 1e2, 1.0, 1e-2, 1e-4, 1e-6)
SEARCH_STEPS = 8
# A fit has converged when its weights are surely within this share of the optimum's size from the optimum.
CONVERGED = 1e-3


class LinearProbe(PromptMethod):
    """L2-regularised logistic regression on un-normalised global features (Radford et al., ICML 2021, A.3).

    logits = W z + b. The inverse strength C is the best of 1e-6, 1e-4 .. 1e6 on the validation images, then
    refined by eight bisections of the decade to either side, as in CoOp's few-shot probe; without validation
    images it is CLIP's 0.316. The logits are no cosines: scores that need some do not apply.
    Differs from the paper: C is chosen on the few-shot validation images, not by a sweep on a full split; and
    Newton's method (`logistic`) finds the optimum, where CLIP's code runs L-BFGS up to 1000 iterations towards it.
    """

    capabilities = frozenset({"closed_form", "feature_cache", "several_names"})
    config: LinearProbeConfig
    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        backbone: Backbone,
        class_names: Sequence[str],
        config: LinearProbeConfig,
        *,
        descriptions: Sequence[Sequence[str]] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(backbone, class_names, config, descriptions=descriptions, generator=generator)
        self.register_buffer("weight", torch.zeros(len(class_names), backbone.vision.joint_dim))
        self.register_buffer("bias", torch.zeros(len(class_names)))

    def forward(
        self,
        images: Tensor | ImageFeatures,
        *,
        text: TextFeatures | None = None,
        draws: Mapping[str, Tensor] | None = None,
        **method_options: Any,
    ) -> MethodOutput:
        """Logits of the regression; there is no text, and no logit scale."""
        features = images if isinstance(images, ImageFeatures) else self.encode_images(images)
        logits_BK = F.linear(at_least_float(features.global_Bd), self.weight, self.bias)
        return MethodOutput(logits_BK, scale=1.0, aux={"image_Bd": features.unit_Bd}, cosine_logits=False)

    def frozen_text(self) -> None:
        """None: the probe reads no text."""

    def with_local(self) -> Self:
        """Itself: there is no text to match patches with."""
        return self

    def fit(
        self, features: ImageFeatures, labels: Tensor, val: tuple[ImageFeatures, Tensor] | None
    ) -> Mapping[str, Any]:
        """Choose C and fit.

        Returns:
            `C`, where it came from (`C_source`), and whether the fit with it `converged`: its weights are within
            0.1 % of the optimum.

        Raises:
            InputError: fewer than two classes, or a class without a training image.
        """
        self._check_labels(labels)
        classes = len(self.class_names)
        regression = Regression(features.global_Bd, labels, classes)

        def probe(c: float) -> tuple[Tensor, Tensor, float]:
            # Of two classes the penalty is on the difference w of their weights, as in scikit-learn: |w|^2 = 2 |W|^2.
            return regression.fit(c / 2 if classes == 2 else c, max_iter=self.config.max_iter)

        if val is None:
            c, source = self.config.c_without_val, "default: no validation images"
        else:
            val_Bd = double(val[0].global_Bd)
            val_B = val[1].to(val_Bd.device)
            c = search_c(lambda c: _accuracy(*probe(c)[:2], val_Bd, val_B))
            source = f"grid and bisection on {len(val_B)} validation images"
        weight_Kd, bias_K, distance = probe(c)
        self.weight.copy_(weight_Kd)
        self.bias.copy_(bias_K)
        return {"C": c, "C_source": source, "converged": distance <= CONVERGED}

    def _check_labels(self, y_B: Tensor) -> None:
        if len(self.class_names) < 2:
            raise InputError("the linear probe needs at least two classes")
        missing = sorted(set(range(len(self.class_names))) - set(y_B.tolist()))
        if missing:
            name = self.class_names[missing[0]]
            raise InputError(f"the linear probe has no training image of class {name!r}")


def search_c(accuracy: Callable[[float], float]) -> float:
    """The C that CoOp's probe would choose: the best of a coarse grid, then eight bisections in log C.

    Args:
        accuracy: of the probe fitted with a C, on the validation images; deterministic.

    Returns:
        C. Among equals the grid takes the larger, a bisection the smaller.
    """
    accuracy = cache(accuracy)
    for c in reversed(GRID):  # a fit is fast from that of a C which is a little smaller
        accuracy(c)
    peak = math.log10(max(GRID, key=accuracy))
    low, high, best = peak - 1, peak + 1, peak
    for _ in range(SEARCH_STEPS):
        middle = (low + high) / 2
        if accuracy(10**low) < accuracy(10**high):
            low, best = middle, high
        else:
            high, best = middle, low
    return float(10**best)


def _accuracy(weight_Kd: Tensor, bias_K: Tensor, x_Bd: Tensor, y_B: Tensor) -> float:
    return float((F.linear(x_Bd, weight_Kd, bias_K).argmax(dim=-1) == y_B).double().mean())

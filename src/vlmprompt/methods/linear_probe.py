"""Logistic regression on frozen image features.

Shapes: B images, K classes, d joint width.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmprompt.backbones.types import ImageFeatures, TextFeatures
from vlmprompt.errors import InputError
from vlmprompt.methods.config import LinearProbeConfig
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.output import MethodOutput

if TYPE_CHECKING:
    import numpy as np

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
    Newton's method finds the optimum, where CLIP's code runs L-BFGS up to 1000 iterations towards the same one.
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
        logits_BK = F.linear(features.global_Bd.float(), self.weight, self.bias)
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
        x_Bd, y_B = _arrays(features, labels)
        self._check_labels(y_B)
        probe = cache(lambda c: fit_optimum(x_Bd, y_B, c, max_iter=self.config.max_iter))
        if val is None:
            c, source = self.config.c_without_val, "default: no validation images"
        else:
            val_Bd, val_B = _arrays(*val)
            c = search_c(lambda c: float(probe(c).score(val_Bd, val_B)))
            source = f"grid and bisection on {len(val_B)} validation images"
        best = probe(c)
        self._take(best.coef_, best.intercept_)
        return {"C": c, "C_source": source, "converged": distance(best, x_Bd, y_B) <= CONVERGED}

    def _check_labels(self, y_B: np.ndarray[Any, Any]) -> None:
        if len(self.class_names) < 2:
            raise InputError("the linear probe needs at least two classes")
        missing = sorted(set(range(len(self.class_names))) - set(y_B.tolist()))
        if missing:
            name = self.class_names[missing[0]]
            raise InputError(f"the linear probe has no training image of class {name!r}")

    def _take(self, coef: np.ndarray[Any, Any], intercept: np.ndarray[Any, Any]) -> None:
        weight, bias = torch.as_tensor(coef), torch.as_tensor(intercept)
        if len(self.class_names) == 2:  # scikit-learn gives the difference of the two classes' logits
            weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
        self.weight.copy_(weight)
        self.bias.copy_(bias)


def search_c(accuracy: Callable[[float], float]) -> float:
    """The C that CoOp's probe would choose: the best of a coarse grid, then eight bisections in log C.

    Args:
        accuracy: of the probe fitted with a C, on the validation images; deterministic.

    Returns:
        C. Among equals the grid takes the larger, a bisection the smaller.
    """
    accuracy = cache(accuracy)
    peak = math.log10(max(GRID, key=accuracy))
    low, high, best = peak - 1, peak + 1, peak
    for _ in range(SEARCH_STEPS):
        middle = (low + high) / 2
        if accuracy(10**low) < accuracy(10**high):
            low, best = middle, high
        else:
            high, best = middle, low
    return float(10**best)


def _arrays(features: ImageFeatures, labels: Tensor) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return features.global_Bd.detach().cpu().double().numpy(), labels.cpu().numpy()


def distance(probe: Any, x_Bd: np.ndarray[Any, Any], y_B: np.ndarray[Any, Any]) -> float:
    """An upper bound of |W - W*| / |W|, the distance of a fit's weights from the optimum.

    The objective C * sum(cross-entropy) + |W|^2 / 2 is strongly convex in W with modulus 1, so the norm of its
    gradient bounds the distance (up to the free b, of which no C is asked).

    Args:
        probe: scikit-learn's fitted `LogisticRegression`.
    """
    import numpy as np

    weight = probe.coef_  # (K,d); of two classes (1,d), the second against the first
    residual_BK = probe.predict_proba(x_Bd)
    residual_BK[np.arange(len(y_B)), y_B] -= 1
    gradient = probe.C * residual_BK[:, -len(weight) :].T @ x_Bd + weight
    return float(np.linalg.norm(gradient) / np.linalg.norm(weight))


def fit_optimum(x_Bd: np.ndarray[Any, Any], y_B: np.ndarray[Any, Any], c: float, *, max_iter: int = 1000) -> Any:
    """scikit-learn's `LogisticRegression` at the optimum for one C, of features (B,d) and labels (B).

    scikit-learn bounds the largest entry of the gradient of the MEAN loss. With its default of 1e-4 L-BFGS stops
    after some ten steps where C is large, far from the optimum, and says nothing. So the bound follows C times the
    number of images: where that is large the gradient that matters is small, where it is small the weights are.
    Newton's method gets there in tens of steps at any C, L-BFGS would need hundreds.
    """
    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    x_Bd = np.asarray(x_Bd, dtype=np.float64)  # single precision does not reach the tolerance
    strength = c * len(y_B)
    tolerance = min(1e-8, 1e-8 * strength, 1e-3 / strength)
    with warnings.catch_warnings():
        # `fit` says itself whether the chosen one converged.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # With one image a class scikit-learn takes the labels for a regression's.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        return LogisticRegression(C=c, solver="newton-cg", tol=tolerance, max_iter=max_iter).fit(x_Bd, y_B)

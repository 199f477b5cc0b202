"""LP++: a linear probe blended with the text, its step sizes taken from the data.

Shapes: N training images, B images, K classes, d joint width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmprompt.api import ImageFeatures, InputError, MethodOutput, TextFeatures, seeded_linear
from vlmprompt_adapters.config.lp_plus_plus import LPPlusPlusConfig
from vlmprompt_adapters.given import require_every_class, require_labelled, to_search_on
from vlmprompt_adapters.texts import FixedText

MOMENTUM = 0.9


class LPPlusPlus(FixedText):
    """LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP (Huang et al., CVPR 2024).

    logits_k = z . (w_k + alpha_k t_k) + b_k with unit image features z and text t_k, and no logit scale, in whose place
    alpha stands. `fit` minimises the cross-entropy over all N training images at once:

    - start: w_k the sum of the class's features, alpha_k = alpha_factor times the mean over classes of the mean z . t_k
      of their images, b as it is (random at first, as in nn.Linear);
    - w and b: gradient descent with momentum 0.9 and the step 4 N / lambda_max(Z^T Z);
    - alpha: after every `alpha_every`-th epoch a step of N / (4 max_k sum_n (z_n . t_k)^2) along the gradients of all
      epochs so far.

    Learned are `weight` (K,d), `bias` (K) and `alpha` (K).

    Same as the official code: sums where the paper has means, the bias, the momentum, and alpha's gradients that are
    never zeroed. But the last epoch's state is kept unless `search = val`, the image features are of one deterministic
    view in place of one random one, and all is fp32.
    """

    capabilities = frozenset({"closed_form", "feature_cache", "several_names"})
    config: LPPlusPlusConfig
    # What a search begins with again; of a method that was loaded there is nothing.
    fitted_on: tuple[Tensor, Tensor, Tensor] | None = None

    def create(self) -> None:
        """The text, and the classifier."""
        super().create()
        self.searched = ("epoch",) if self.config.search == "val" else ()
        n_classes, d = self.text_Kd.shape
        self.weight = nn.Parameter(torch.zeros(n_classes, d))
        self.bias = nn.Parameter(seeded_linear(d, n_classes, generator=self.generator).bias.detach())
        self.alpha = nn.Parameter(torch.zeros(n_classes))

    def classify(self, features: ImageFeatures, text: TextFeatures, **method_options: Any) -> MethodOutput:
        """Logits of the regression, which are no cosines."""
        with torch.autocast(features.global_Bd.device.type, enabled=False):
            z_Bd = features.unit_Bd
            logits_BK = F.linear(z_Bd, self.weight, self.bias) + self.alpha * (z_Bd @ text.unit_PKd[0].T)
        return MethodOutput(logits_BK, scale=1.0, cosine_logits=False)

    @torch.no_grad()
    def fit(
        self, features: ImageFeatures, labels: Tensor, val: tuple[ImageFeatures, Tensor] | None
    ) -> Mapping[str, Any]:
        """Start from the data and take `epochs` steps; with `search = val` keep the best epoch's state.

        Returns:
            The step sizes `lr_weight` and `lr_alpha`, the common start `alpha_start`, the `epoch` (from 1) whose state
            is kept, the `loss` before its step, and what `search_on_val` says of a search.

        Raises:
            InputError: labels do not fit the features, a class has no image, or there are no validation images to
                choose on.
        """
        require_labelled(self, features, labels)
        require_every_class(self, labels)
        chosen_on = to_search_on(self, val)
        z_Nd, labels_N = features.unit_Bd.to(self.weight), labels.to(self.weight.device, torch.int64)
        self.fitted_on = z_Nd, labels_N, self.bias.clone()
        return self._descend(*self.fitted_on, val=chosen_on)

    @torch.no_grad()
    def search_on_val(self, features: ImageFeatures, labels: Tensor) -> Mapping[str, Any]:
        """Take the same steps again and keep the state of the epoch that is best on validation images.

        Returns:
            What `fit` does, and the `val_accuracy` of the `epoch`, and how many were `tried`.

        Raises:
            InputError: the method was not fitted, or labels do not fit the features or the classes.
        """
        if self.fitted_on is None:
            raise InputError(f"{self.told} takes its steps again to search, and was not fitted", hint="call fit first")
        require_labelled(self, features, labels, "validation")
        return self._descend(*self.fitted_on, val=(features, labels))

    def _descend(
        self, z_Nd: Tensor, labels_N: Tensor, bias_K: Tensor, val: tuple[ImageFeatures, Tensor] | None = None
    ) -> dict[str, Any]:
        cosines_NK = z_Nd @ self.encode_text().unit_PKd[0].T
        lr_weight, lr_alpha = step_sizes(z_Nd, cosines_NK)
        self.bias.copy_(bias_K)
        alpha = self._start(z_Nd, cosines_NK, labels_N)
        losses = self._steps(z_Nd, cosines_NK, labels_N, lr_weight, lr_alpha)
        sizes = {"lr_weight": lr_weight, "lr_alpha": lr_alpha, "alpha_start": alpha}
        if val is None:
            return sizes | {"epoch": self.config.epochs, "loss": list(losses)[-1]}
        return sizes | self._best(losses, *val)

    def _start(self, z_Nd: Tensor, cosines_NK: Tensor, labels_N: Tensor) -> float:
        """Initial weight and alpha; gives the latter."""
        true_N = cosines_NK.gather(1, labels_N[:, None])[:, 0]
        sums_K = torch.zeros_like(self.alpha).index_add(0, labels_N, true_N)
        means_K = sums_K / labels_N.bincount(minlength=len(self.alpha))
        alpha = float(self.config.alpha_factor * means_K.mean())
        self.weight.copy_(torch.zeros_like(self.weight).index_add(0, labels_N, z_Nd))
        self.alpha.fill_(alpha)
        return alpha

    def _steps(
        self, z_Nd: Tensor, cosines_NK: Tensor, labels_N: Tensor, lr_weight: float, lr_alpha: float
    ) -> Iterator[float]:
        """Take a step, give the loss before it; as often as there are epochs."""
        true_NK = F.one_hot(labels_N, len(self.alpha)).to(z_Nd)
        weight_run, bias_run, alpha_sum = (torch.zeros_like(p) for p in (self.weight, self.bias, self.alpha))
        for epoch in range(self.config.epochs):
            logits_NK = F.linear(z_Nd, self.weight, self.bias) + self.alpha * cosines_NK
            residual_NK = (logits_NK.softmax(dim=1) - true_NK) / len(z_Nd)
            weight_run.mul_(MOMENTUM).add_(residual_NK.T @ z_Nd)
            bias_run.mul_(MOMENTUM).add_(residual_NK.sum(dim=0))
            alpha_sum += (residual_NK * cosines_NK).sum(dim=0)
            self.weight.sub_(lr_weight * weight_run)
            self.bias.sub_(lr_weight * bias_run)
            if (epoch + 1) % self.config.alpha_every == 0:
                self.alpha.sub_(lr_alpha * alpha_sum)
            yield float(F.cross_entropy(logits_NK, labels_N))

    def _best(self, losses: Iterator[float], features: ImageFeatures, labels: Tensor) -> dict[str, Any]:
        """Keep the state of the epoch that is best on validation images, of equal ones the latest."""
        features, labels_B = features.to(self.weight.device), labels.to(self.weight.device)
        found: dict[str, Any] = {"val_accuracy": -1.0}
        kept: dict[str, Tensor] = {}
        for epoch, loss in enumerate(losses, start=1):
            right_B = self.classify(features, self.encode_text()).logits.argmax(dim=1) == labels_B
            accuracy = float(right_B.double().mean())
            if accuracy >= found["val_accuracy"]:
                found = {"epoch": epoch, "loss": loss, "val_accuracy": accuracy}
                kept = {name: tensor.clone() for name, tensor in self.trainable_state().items()}
        self.load_trainable_state(kept)
        return found | {"tried": self.config.epochs}


def step_sizes(z_Nd: Tensor, cosines_NK: Tensor) -> tuple[float, float]:
    """Of weight and bias, and of alpha: inverses of bounds on the loss's curvature, times four."""
    gram_dd = (z_Nd.T @ z_Nd).cpu().double()
    curvature = float(torch.linalg.eigvalsh(gram_dd)[-1])
    return 4 * len(z_Nd) / curvature, len(z_Nd) / (4 * float(cosines_NK.square().sum(dim=0).max()))

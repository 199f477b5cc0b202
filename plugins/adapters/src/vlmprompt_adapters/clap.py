"""CLAP: class prototypes that are held near the text, as far as the text knows each class.

Shapes: n rows (images times views), B images, K classes, d joint width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD

from vlmprompt.api import ImageFeatures, Losses, MethodOutput, TextFeatures, cross_entropy
from vlmprompt_adapters.config.clap import CLAPConfig
from vlmprompt_adapters.given import require_every_class, require_labelled
from vlmprompt_adapters.texts import FixedText, raw_class_text

# The schedule of the official code.
BATCH, MOMENTUM, WARMUP_EPOCHS, WARMUP_LR = 256, 0.9, 1, 1e-5
# What needs no gradient takes so many: twenty views of a large data set are some gigabytes of probabilities.
ROWS_AT_A_TIME = 4096


class CLAP(FixedText):
    """CLass-Adaptive linear Probing (Silva-Rodriguez et al., CVPR 2024).

    logits = s * cos(z, w_k); the loss is CE + mean_k lambda_k |w_k - t_k|^2, with t_k the text feature of class k as
    the tower gives it, not normalised (of several templates the mean), where `prototypes` w (K,d) start. The buffer
    `multipliers` lambda (K) is what zero-shot CLIP, w = t, knows of each class: its mean probability of the true class
    over the class's training rows. `fit` sets it and trains w by SGD: an epoch draws about as many rows as there are
    images, in batches of 256; of fewer images it draws one batch, of all their views.

    Same as the official code, underscores of class names included; nothing is chosen on validation images. Before `fit`
    the multipliers are 0.
    """

    capabilities = frozenset({"closed_form", "feature_cache"})
    config: CLAPConfig
    multipliers: Tensor

    def create(self) -> None:
        """The text, and the prototypes that start there."""
        super().create()
        self.fit_views = self.config.views
        self.prototypes = nn.Parameter(self.text_Kd.clone())
        self.register_buffer("multipliers", torch.zeros(len(self.text_Kd)))

    def class_features(self) -> Tensor:
        """(K,d), not normalised."""
        keep = self.config.keep_underscores
        return raw_class_text(self.backbone.text, self.templates, self.class_names, keep_underscores=keep)

    def encode_text(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextFeatures:
        """The prototypes (1,K,d)."""
        return TextFeatures(self.prototypes[None])

    def distances(self) -> Tensor:
        """Squared distance of each prototype from its text (K)."""
        return (self.prototypes - self.text_Kd).square().sum(dim=-1)

    def loss(
        self,
        output: MethodOutput,
        labels: Tensor,
        *,
        draws: Mapping[str, Tensor] | None = None,
        weights: Tensor | None = None,
    ) -> Losses:
        """Cross-entropy (of weighted images) and the weighted distances; parts `ce` and `constraint`."""
        ce = cross_entropy(output.logits, labels, weights)
        constraint = (self.multipliers * self.distances()).mean()
        return Losses(ce + constraint, {"ce": ce.detach(), "constraint": constraint.detach()})

    def fit(
        self, features: ImageFeatures, labels: Tensor, val: tuple[ImageFeatures, Tensor] | None
    ) -> Mapping[str, Any]:
        """Set the multipliers and train the prototypes from the text on.

        Args:
            features: of any number of rows; of several views, view after view, where the option `views` says how many.
            val: not used.

        Returns:
            The smallest and largest of the `multipliers`, the optimiser `steps`, and the last batch's `loss`.

        Raises:
            InputError: labels do not fit the features, or a class has no image.
        """
        require_labelled(self, features, labels)
        require_every_class(self, labels)
        device = self.backbone.device
        rows, labels_n = features.to(device, self.prototypes.dtype), labels.to(device, torch.int64)
        self.prototypes.data.copy_(self.text_Kd)
        self.multipliers = self._multipliers(rows, labels_n)
        steps, loss = self._train(rows, labels_n)
        lowest, highest = float(self.multipliers.min()), float(self.multipliers.max())
        return {"multipliers": [lowest, highest], "steps": steps, "loss": loss}

    @torch.no_grad()
    def _multipliers(self, rows: ImageFeatures, labels_n: Tensor) -> Tensor:
        """Of the text as the prototypes."""
        kind = self.config.multipliers
        if kind == "balanced":
            return torch.ones_like(self.multipliers)
        sums_K, text = torch.zeros_like(self.multipliers), TextFeatures(self.text_Kd[None])
        for index_B in torch.arange(len(labels_n), device=labels_n.device).split(ROWS_AT_A_TIME):
            probabilities_BK = self.classify(rows[index_B], text).logits.softmax(dim=1)
            labels_B = labels_n[index_B]
            sums_K.index_add_(0, labels_B, probabilities_BK.gather(1, labels_B[:, None])[:, 0])
        means_K = sums_K / labels_n.bincount(minlength=len(sums_K))
        if kind == "corrected":
            return means_K / means_K.mean()
        return means_K.mean().expand_as(means_K).clone() if kind == "constant" else means_K

    @torch.enable_grad()
    def _train(self, rows: ImageFeatures, labels_n: Tensor) -> tuple[int, float]:
        """The number of steps, and the loss of the last one."""
        optimizer = SGD([self.prototypes], lr=self.config.lr, momentum=MOMENTUM)
        per_epoch = max(1, len(labels_n) // self.config.views // BATCH)
        penalty_K, loss, steps = torch.zeros_like(self.multipliers), torch.zeros(()), 0
        for epoch in range(self.config.epochs):
            optimizer.param_groups[0]["lr"] = learning_rate(self.config, epoch)
            order_n = torch.randperm(len(labels_n), generator=self.generator).to(labels_n.device)
            for index_B in order_n[: per_epoch * BATCH].split(BATCH):
                optimizer.zero_grad()
                loss = self.loss(self.classify(rows[index_B], self.encode_text()), labels_n[index_B]).total
                loss.backward()
                optimizer.step()
                steps += 1
            if self.config.multipliers == "adaptive":
                distance_K = self.distances().detach()
                self.multipliers = (self.multipliers + penalty_K * distance_K).clamp(min=0)
                penalty_K = distance_K
        self.prototypes.grad = None
        return steps, float(loss.detach())


def learning_rate(config: CLAPConfig, epoch: int) -> float:
    """Of an epoch (0-based): warm-up, then a cosine that starts at `lr`."""
    if epoch < WARMUP_EPOCHS:
        return WARMUP_LR
    return config.lr / 2 * (1 + math.cos(math.pi * (epoch - WARMUP_EPOCHS) / config.epochs))

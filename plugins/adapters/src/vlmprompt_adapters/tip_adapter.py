"""Tip-Adapter: a cache of the training images beside zero-shot CLIP.

Shapes: B images, K classes, N training images, V views, d joint width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from vlmprompt.api import ImageFeatures, MethodOutput, TextFeatures
from vlmprompt_adapters.cache import affinities, averaged_keys, cache_logits, grid, search
from vlmprompt_adapters.config.tip_adapter import TipAdapterConfig
from vlmprompt_adapters.given import require_labelled, require_views, to_search_on
from vlmprompt_adapters.scale import SCALE
from vlmprompt_adapters.texts import FixedText


class TipAdapter(FixedText):
    """Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification (Zhang et al., ECCV 2022).

    logits_k = 100 * cos(z, t_k) + alpha * sum over training images n of class k of exp(-beta * (1 - cos(z, key_n))),
    with t_k the class's text and key_n the mean of the raw features of V random views of image n, normalised. Held are
    `keys` (N,d) and `labels` (N), none before `fit`: then this is zero-shot CLIP.

    Same as the official code, but alpha and beta stay as given unless `search = val` asks for the best on the
    validation images (200 values of beta by 20 of alpha, as there), and never come from test images, which the code
    takes for ImageNet. What a search has found is kept in the buffer `found` (2): alpha, beta. The views are those of
    the toolkit's training transform.
    """

    capabilities = frozenset({"closed_form", "feature_cache", "several_names"})
    passing: ClassVar[frozenset[str]] = frozenset({"found"})
    config: TipAdapterConfig
    keys: Tensor
    labels: Tensor
    found: Tensor | None

    def create(self) -> None:
        """The text, and an empty cache."""
        super().create()
        self.fit_views = self.config.views
        self.searched = ("alpha", "beta") if self.config.search == "val" else ()
        self.create_keys(torch.zeros(0, self.backbone.vision.joint_dim))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))

    def create_keys(self, empty_Nd: Tensor) -> None:
        """Register the keys."""
        self.register_buffer("keys", empty_Nd)

    @property
    def alpha_beta(self) -> tuple[float, float]:
        """In use: what was found on validation images, else the options."""
        if self.found is None:
            return self.config.alpha, self.config.beta
        alpha, beta = self.found.tolist()
        return alpha, beta

    def classify(self, features: ImageFeatures, text: TextFeatures, **method_options: Any) -> MethodOutput:
        """Zero-shot logits and the cache's; there are no cosines of the two together."""
        output = super().classify(features, text, **method_options)
        assert output.global_cosines is not None
        alpha, beta = self.alpha_beta
        with torch.autocast(output.logits.device.type, enabled=False):
            affinity_NB = affinities(output.aux["image_Bd"], self.keys)
            cache_BK = cache_logits(affinity_NB, self.labels, beta, len(self.class_names))
        logits_BK = SCALE * output.global_cosines + alpha * cache_BK
        return replace(output, logits=logits_BK, scale=SCALE, global_cosines=None)

    def fit(
        self, features: ImageFeatures, labels: Tensor, val: tuple[ImageFeatures, Tensor] | None
    ) -> Mapping[str, Any]:
        """Fill the cache; with `search = val` choose alpha and beta.

        Args:
            features: of V views of N images, view after view.
            labels: (V*N,), the same N in every view.

        Returns:
            The numbers of `images` and `views`, and what `search_on_val` says of a search.

        Raises:
            InputError: rows and labels do not fit together or the option `views`, or there are no validation images to
                search on.
        """
        require_labelled(self, features, labels)
        require_views(self, labels, self.config.views)
        chosen_on = to_search_on(self, val)
        keys_Nd = averaged_keys(features.global_Bd, self.config.views).to(self.keys)
        self.hold(keys_Nd, labels[: len(keys_Nd)].to(self.labels))
        fitted = {"images": len(keys_Nd), "views": self.config.views}
        return fitted if chosen_on is None else {**fitted, **self.search_on_val(*chosen_on)}

    def search_on_val(self, features: ImageFeatures, labels: Tensor) -> Mapping[str, Any]:
        """Choose alpha and beta on validation images, and keep them.

        Returns:
            `alpha`, `beta`, the `val_accuracy` with them, and how many pairs were `tried`.

        Raises:
            InputError: labels do not fit the features or the classes.
        """
        require_labelled(self, features, labels, "validation")
        device = self.backbone.device
        with torch.no_grad():
            image_Bd = features.unit_Bd.to(device)
            own_BK = SCALE * image_Bd @ self.encode_text().unit_PKd[0].T
            betas, alphas = map(grid, self.config.search_scale, self.config.search_step)
            best = search(image_Bd, own_BK, labels.to(device), self.keys, self.labels, betas=betas, alphas=alphas)
        self.found = torch.tensor([best.alpha, best.beta], device=device)
        return asdict(best)

    def hold(self, keys_Nd: Tensor, labels_N: Tensor) -> None:
        """Put these into the cache, in place of what is there; what was found for that is forgotten."""
        self.keys.data, self.labels = keys_Nd, labels_N
        self.found = None

    def load_trainable_state(self, state: Mapping[str, Tensor]) -> None:
        """Load what `trainable_state` gave, of any number of images.

        Raises:
            InputError: see `PromptMethod.load_trainable_state`; or keys and labels are not equally many, or a label is
                no class.
        """
        keys, labels = state.get("keys"), state.get("labels")
        if isinstance(keys, Tensor) and isinstance(labels, Tensor) and keys.shape[:1] == labels.shape:
            empty_Nd = self.keys.new_zeros(len(keys), self.keys.shape[1])
            self.hold(empty_Nd, self.labels.new_zeros(len(labels)))
        super().load_trainable_state(state)
        if len(self.labels):
            require_labelled(self, ImageFeatures(self.keys.detach()), self.labels, "cached")

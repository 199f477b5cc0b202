"""Tip-Adapter-F: Tip-Adapter's cache, its keys trained.

Shapes: N training images, d joint width.
"""

from __future__ import annotations

from torch import Tensor, nn

from vlmprompt_adapters.config.tip_adapter_f import TipAdapterFConfig
from vlmprompt_adapters.tip_adapter import TipAdapter


class TipAdapterF(TipAdapter):
    """Tip-Adapter-F: Tip-Adapter fine-tuned (Zhang et al., ECCV 2022).

    Logits are Tip-Adapter's; learned are the `keys` (N,d), which start as its cache and are not normalised again, by
    cross-entropy at the options' alpha and beta. With `search = val` the two are chosen on the validation images
    afterwards, and only used in evaluation.

    Same as the official code, but what is kept is the last epoch's state, and not the one of the best accuracy on the
    test images; and of an epoch an incomplete last batch is left out.
    """

    capabilities = frozenset({"fit_first", "feature_cache", "several_names", "row_split"})
    config: TipAdapterFConfig

    def create_keys(self, empty_Nd: Tensor) -> None:
        """Register the keys, to be trained; `fit` and a checkpoint change their number, not the parameter."""
        self.keys = nn.Parameter(empty_Nd)

    @property
    def alpha_beta(self) -> tuple[float, float]:
        """In use: in training the options."""
        return (self.config.alpha, self.config.beta) if self.training else super().alpha_beta

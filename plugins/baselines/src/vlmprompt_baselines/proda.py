"""ProDA: a distribution of text features for each class.

Shapes: B images, K classes, N prompts, P prompts of a step, V context tokens, D text width, d joint width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vlmprompt.api import (
    ClassPosition,
    Losses,
    MethodOutput,
    PromptMethod,
    TextPrompts,
    cross_entropy,
    gaussian,
    unit,
)
from vlmprompt_baselines.config import ProDAConfig


class ProDA(PromptMethod):
    """Prompt Distribution Learning (Lu et al., CVPR 2022).

    N contexts, a quarter with the class name in front, a quarter with it amid, half with it at the end. With
    unit features w_pk, mu_k = mean_p w_pk (not normalised again), logits = s * z . mu_k. A training step takes
    P of the prompts, each once before any again, and minimises CE of an upper bound of the expected loss under
    a Gaussian of the w_k with diagonal covariance C, plus orth_weight times the mean |cosine| of all pairs of
    the N prompts without a class name. The bound adds to logit k of an image of class y
    s^2/2 * sum_t z_t^2 (C_t[y,y] + C_t[k,k] - 2 C_t[y,k]), C_t[i,j] = sum_p (w_pi - mu_i)_t (w_pj - mu_j)_t / (P+1).
    Learned is `ctx` (N,V,D).

    The paper's own code is not public where its repository points; this follows a public port of it, with the
    covariance in matrix products instead of a (d,K,K) tensor. The port miscounts names with underscores; here
    these are spaces, as everywhere.
    """

    capabilities = frozenset({"new_classes", "feature_cache", "class_shard", "row_split"})
    passing = frozenset({"queue"})
    config: ProDAConfig
    queue: Tensor | None  # numbers of the prompts that wait for their turn

    def create(self) -> None:
        """The contexts."""
        c = self.config
        self.ctx = nn.Parameter(gaussian(c.n_prompts, c.n_ctx, self.backbone.text.width, generator=self.generator))

    def sample_draws(self) -> Mapping[str, Tensor]:
        """The prompts of a step, `prompt_ids` (P,): the next of a random order that is drawn anew when used up."""
        waiting = torch.randperm(self.config.n_prompts, generator=self.generator) if self.queue is None else self.queue
        taken, rest = waiting[: self.config.prompt_batch], waiting[self.config.prompt_batch :]
        self.queue = rest if len(rest) else None
        return {"prompt_ids": taken}

    def text_prompts(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextPrompts:
        """The prompts of a step, or all of them where none are drawn."""
        ids = draws["prompt_ids"].tolist() if draws else range(self.config.n_prompts)
        return TextPrompts(self.ctx[list(ids)], position=tuple(self._position(i) for i in ids))

    def loss(
        self,
        output: MethodOutput,
        labels: Tensor,
        *,
        draws: Mapping[str, Tensor] | None = None,
        weights: Tensor | None = None,
    ) -> Losses:
        """The bound (of weighted images) and the likeness of prompts; parts `upper` and `orth`."""
        upper = cross_entropy(upper_logits(output, labels), labels, weights)
        orth = self.likeness()
        total = upper + self.config.orth_weight * orth
        return Losses(total, {"upper": upper.detach(), "orth": orth.detach()})

    def likeness(self) -> Tensor:
        """Mean |cosine| of pairs of different prompts, written as "X .. X." without a class; 0 for one prompt."""
        nameless = self.backbone.text.class_tokens([""])
        features_Nd = unit(self.backbone.text.encode(TextPrompts(self.ctx), nameless)[:, 0])
        n = len(features_Nd)
        off_diagonal_NN = 1 - torch.eye(n, device=features_Nd.device)
        cosines_NN: Tensor = (features_Nd @ features_Nd.T).abs() * off_diagonal_NN
        return cosines_NN.sum() / max(n * (n - 1), 1)

    def _position(self, prompt: int) -> ClassPosition:
        n = self.config.n_prompts
        if n == 1 or 2 * prompt >= n:
            return "end"
        return "front" if 4 * prompt < n else "middle"


def upper_logits(output: MethodOutput, labels_B: Tensor) -> Tensor:
    """The logits whose cross-entropy bounds the expected loss (B,K); they depend on the label.

    With a = w - mu the sum over t and p of z_t^2 (a_py - a_pk)_t^2 is expanded into three products.
    """
    squared_Bd, text_PKd = output.aux["image_Bd"].square(), output.aux["text_PKd"]
    with torch.autocast(squared_Bd.device.type, enabled=False):
        off_PKd = text_PKd - text_PKd.mean(dim=0)
        own_BK = squared_Bd @ off_PKd.square().sum(dim=0).T
        label_B1 = own_BK.gather(1, labels_B[:, None])
        both_BK = torch.einsum("pbd,pkd->bk", squared_Bd * off_PKd[:, labels_B], off_PKd)
        spread_BK = (label_B1 + own_BK - 2 * both_BK) / (len(text_PKd) + 1)
    return output.logits + output.scale**2 / 2 * spread_BK

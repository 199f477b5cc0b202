"""TCP: context words, and class tokens made of each class's own text feature.

Shapes: K classes, V context tokens, S class tokens, D text width, d joint width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from vlmprompt.api import (
    CapabilityError,
    ClassTokens,
    ForeignState,
    InputError,
    Losses,
    MethodOutput,
    PromptMethod,
    TextPrompts,
    UsageError,
    class_text,
    cross_entropy,
    dassl_state,
    gaussian,
    seeded_linear,
)
from vlmprompt_adapters.config.tcp import TCPConfig
from vlmprompt_adapters.written import parts, token_count, without_first

USUAL_LAYER = 8  # of the code's twelve
SQUEEZE = 4  # of the text feature in the meta-net
CODE = "TCP's code"
MAPS = {"linear1": "0", "linear2": "2"}  # of the meta-net, in the code and here


class TCP(PromptMethod):
    """TCP: Textual-based Class-aware Prompt tuning for Visual-Language Model (Yao et al., CVPR 2024).

    The text of class k is "[v_1] .. [v_V] {name k}" with the rest of the template. T_k = W_2 g(W_1 t_k + b_1) + b_2
    (S,D), g the QuickGELU, is made of the frozen feature t_k of a second, hand-written text; in one layer's input it
    stands in place of the first S tokens of the prompt. logits = s * cos(z, w_k), and the loss is
    CE + weight * (1 - mean_k cos(w_k, t_k)). Learned are `ctx` (V,D) and `meta_net`. Class tokens of other classes come
    from their own names.

    Same as the official code, but all stays in fp32, and the numbers of tokens and the layer may be any. A template
    with fewer words before the class name than context tokens loses all of them.
    """

    capabilities = frozenset({"new_classes", "feature_cache", "class_shard", "row_split"})
    requires = frozenset({"deep_text_prompts"})
    config: TCPConfig
    teacher_text_Kd: Tensor

    def create(self) -> None:
        """The context, the meta-net, and the features that it reads."""
        engine, c = self.backbone.text, self.config
        self.layer = chosen_layer(c.layer, engine.layers)
        words, _ = self._written()
        room = c.n_ctx + token_count(engine, words)
        if c.n_class_tokens > room:
            raise UsageError(
                f"n_class_tokens = {c.n_class_tokens}, but {room} tokens stand before the class name",
                hint=f"set n_class_tokens to {room} or less",
            )
        self.ctx = nn.Parameter(gaussian(c.n_ctx, engine.width, generator=self.generator))
        narrow = max(engine.joint_dim // SQUEEZE, 1)
        self.meta_net = nn.Sequential(
            seeded_linear(engine.joint_dim, narrow, generator=self.generator),
            QuickGELU(),
            seeded_linear(narrow, c.n_class_tokens * engine.width, generator=self.generator),
        )
        self.renew(None)

    def renew(self, template: str | None) -> None:
        """The frozen text features of the classes."""
        own = self.config.teacher_template
        names, keep = self.class_names, self.config.keep_underscores
        teacher_Kd = class_text(self.backbone.text, self.template if own is None else own, names, keep_underscores=keep)
        self.register_buffer("teacher_text_Kd", teacher_Kd, persistent=False)

    def class_tokens(self, names: Sequence[str]) -> ClassTokens:
        """Names with what stands behind them in the template."""
        _, behind = self._written()
        return self.backbone.text.class_tokens(names, tail=behind, keep_underscores=self.config.keep_underscores)

    def text_prompts(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextPrompts:
        """The context, and T_k of every class in the one layer: (K,1,S,D)."""
        words, _ = self._written()
        tokens_KSD = self.meta_net(self.teacher_text_Kd).unflatten(-1, (self.config.n_class_tokens, -1))
        return TextPrompts(self.ctx[None], deep={self.layer: tokens_KSD[:, None]}, words=words)

    def loss(
        self,
        output: MethodOutput,
        labels: Tensor,
        *,
        draws: Mapping[str, Tensor] | None = None,
        weights: Tensor | None = None,
    ) -> Losses:
        """Cross-entropy (of weighted images) and the weighted distance; parts `ce` and `distance`."""
        ce = cross_entropy(output.logits, labels, weights)
        (text_Kd,) = output.aux["text_PKd"]
        distance = 1 - (text_Kd * self.teacher_text_Kd).sum(dim=-1).mean()
        total = ce + self.config.weight * distance
        return Losses(total, {"ce": ce.detach(), "distance": distance.detach()})

    @classmethod
    def foreign_state(cls, content: Mapping[str, Any]) -> ForeignState:
        """`ctx` and `meta_net` of the official code; CoCoOp's has the same names, and other shapes.

        Raises:
            InputError: the meta-net makes no tokens of the context's width.
        """
        saved = dassl_state(content, CODE)
        names = {f"meta_net.{a}.{kind}": f"meta_net.{b}.{kind}" for a, b in MAPS.items() for kind in ("weight", "bias")}
        saved.require(["ctx", *names])
        n_ctx, width = saved.tensor("ctx", 2).shape
        rows, narrow = saved.tensor("meta_net.linear2.weight", 2).shape
        joint = saved.tensor("meta_net.linear1.weight", 2).shape[1]
        wanted = max(joint // SQUEEZE, 1)
        if rows % width or narrow != wanted:
            raise InputError(
                f"the meta-net of {CODE} goes from {joint} to {wanted} and to tokens of {width}; that of the "
                f"checkpoint goes to {narrow} and {rows}"
            )
        state = {names.get(name, name): tensor for name, tensor in saved.state.items()}
        return replace(saved, state=state, options={"n_ctx": n_ctx, "n_class_tokens": rows // width})

    def _written(self) -> tuple[str, str]:
        """The template's words between context and class name, and what stands behind that.

        Raises:
            UsageError: the last word that gives way to the context would be cut.
        """
        template = self.config.template
        assert not isinstance(template, tuple)
        template = self.template if template is None else template
        before, behind = parts(template)
        words = without_first(self.backbone.text, before, self.config.n_ctx)
        if words is None:
            raise UsageError(
                f"the first {self.config.n_ctx} tokens of {template!r} end within a word",
                hint="set another template, such as 'X X X X {}.', or another n_ctx",
            )
        return words, behind


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Of any shape."""
        return x * torch.sigmoid(1.702 * x)


def chosen_layer(asked: int | None, available: int) -> int:
    """The layer whose input is overwritten, from 0: that asked for, else 8, or at two thirds of a shallower tower.

    Raises:
        CapabilityError: there is no layer behind the first.
        UsageError: there is no such layer.
    """
    if available < 2:
        raise CapabilityError(
            "TCP overwrites tokens behind the first text layer, and this tower has no more layers",
            hint="use a deeper text tower, or a method that prompts the input alone, such as coop",
        )
    if asked is None:
        return USUAL_LAYER if available > USUAL_LAYER else max(available * 2 // 3, 1)
    if asked >= available:
        raise UsageError(
            f"layer = {asked}, but the text tower has layers 0 to {available - 1}",
            hint=f"set layer to one of 1 to {available - 1}",
        )
    return asked

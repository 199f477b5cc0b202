"""The text of many classes in shares: each process encodes some classes, and has the features of all.

Shapes: P prompts, K classes (C a process's own), d joint width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vlmprompt.backbones.text.engine import TextEngine
from vlmprompt.backbones.types import ClassTokens, TextPrompts, at_least_float
from vlmprompt.parallel.group import Group


@dataclass(frozen=True)
class ClassShares:
    """Encodes text in shares of the classes."""

    group: Group

    def encode(self, engine: TextEngine, prompts: TextPrompts, classes: ClassTokens) -> Tensor:
        """What `TextEngine.encode` gives, and its gradients, for the sum over the processes of what each computes.

        Text that depends on the images, of which each process has others, is encoded whole; so is that of fewer
        classes than there are processes.

        Raises:
            InputError, CapabilityError: see `TextEngine.encode`.
        """
        n = len(classes)
        if prompts.scope == "image" or n < self.group.size:
            return engine.encode(prompts, classes)
        own = self.group.share(n)
        part = slice(own.start, own.stop)
        features_PCd = engine.encode(prompts_of(prompts, part), tokens_of(classes, part))
        features_PKd: Tensor = _Gathered.apply(self.group, n, features_PCd)
        return features_PKd


def tokens_of(classes: ClassTokens, part: slice) -> ClassTokens:
    """Some of the classes."""
    return ClassTokens(classes.names[part], classes.name_ids[part], classes.tail_ids[part])


def prompts_of(prompts: TextPrompts, part: slice) -> TextPrompts:
    """The prompts of some of the classes: what all share stays as it is."""
    ctx = prompts.ctx[part] if prompts.scope == "class" else prompts.ctx
    deep, inserted = (
        {layer: tokens[part] if tokens.dim() == 4 else tokens for layer, tokens in layered.items()}
        for layered in (prompts.deep, prompts.inserted)
    )
    return replace(prompts, ctx=ctx, deep=deep, inserted=inserted)


class _Gathered(torch.autograd.Function):
    """Classes side by side. Each process makes its own loss of all: their gradients are added, and cut again."""

    @staticmethod
    def forward(ctx: Any, group: Group, n: int, features_PCd: Tensor) -> Tensor:
        ctx.group, ctx.n = group, n
        return group.rows(features_PCd.transpose(0, 1), n).transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, Tensor]:
        (grad_PKd,) = grads
        own = ctx.group.share(ctx.n)
        return None, None, ctx.group.total(at_least_float(grad_PKd))[:, own.start : own.stop].to(grad_PKd.dtype)

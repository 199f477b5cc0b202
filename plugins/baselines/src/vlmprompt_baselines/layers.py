"""Prompts of their own in every layer of a tower, as MaPLe's code has them and its successors.

Shapes: J prompted layers (the first J of a tower), L prompt tokens a layer, W words, D text width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vlmprompt.api import ForeignState, InputError, TextEngine, TextPrompts, UsageError, embedded_words, gaussian


def prompted_layers(option: str, asked: int | None, usual: int, available: int) -> int:
    """How many layers get prompts: those asked for, else the usual number, or all of a tower with fewer.

    Raises:
        UsageError: more are asked for than there are.
    """
    if asked is None:
        return min(usual, available)
    if asked > available:
        raise UsageError(
            f"{option} = {asked}, but there are {available} layers to prompt",
            hint=f"set {option} to {available} or less",
        )
    return asked


def opening(engine: TextEngine, ctx_init: str | None, n_ctx: int) -> tuple[Tensor | None, str]:
    """Initial prompts (L,D) from the first tokens of a text, or None for random ones, and the words behind them.

    Raises:
        UsageError: the last of the `n_ctx` tokens ends within a word.
    """
    if not ctx_init:
        return None, ""
    ctx_WD = embedded_words(engine, ctx_init)
    if n_ctx > len(ctx_WD):
        return None, ""
    words = ctx_init.replace("_", " ").split()
    for i in range(1, len(words) + 1):
        if len(engine.embed_words(" ".join(words[:i]))) == n_ctx:
            return ctx_WD[:n_ctx], " ".join(words[i:])
    raise UsageError(
        f"the first {n_ctx} tokens of {ctx_init!r} end within a word",
        hint="choose other initial words, or another number of prompt tokens",
    )


def initial_layers(first_LD: Tensor | None, layers: int, n_ctx: int, width: int, generator: torch.Generator) -> Tensor:
    """Initial prompts (J,L,width): N(0, 0.02^2), in the first layer those given."""
    prompts_JLD = gaussian(layers, n_ctx, width, generator=generator)
    if first_LD is not None:
        prompts_JLD[0] = first_LD
    return prompts_JLD


def layered_text(prompts_JLD: Tensor, words: str) -> TextPrompts:
    """Text prompts that replace positions 1..L in the first J layers; words, then the class name, follow."""
    first_1LD, *deeper = prompts_JLD[:, None]
    return TextPrompts(first_1LD, deep=dict(enumerate(deeper, start=1)), words=words)


def tower_prompts(saved: ForeignState, first: str, encoder: str) -> list[str]:
    """The names of a tower's prompts in a checkpoint of MaPLe's or PromptSRC's code, a layer each, from the first.

    The code calls the prompts of every deeper layer "VPT_shallow", and numbers layers from 0.

    Args:
        first: the name of those of the first layer.
        encoder: how the names of the tower's weights begin.
    """
    blocks = f"{encoder}.transformer.resblocks."
    deeper = sum(name.startswith(blocks) for name in saved.state)
    return [first, *(f"{blocks}{layer}.VPT_shallow" for layer in range(1, deeper + 1))]


def stacked(saved: ForeignState, names: Sequence[str]) -> Tensor:
    """Prompts of one shape (L,D) as those of layers (J,L,D).

    Raises:
        InputError: the shapes differ, or are none of prompts.
    """
    shapes = {tuple(saved.tensor(name, 2).shape) for name in names}
    if len(shapes) > 1:
        raise InputError(f"prompts of the checkpoint have different shapes in different layers: {sorted(shapes)}")
    return torch.stack([saved.state[name] for name in names])
